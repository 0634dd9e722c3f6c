#!lua flags=allow-oom
-- Drops one entry of the dead list, or as many of the oldest as asked for.
--
-- KEYS 1 dead
-- ARGV 1 entry or ''  2 how many of the oldest, if no entry is named
-- Answer: how many were dropped
local c = redis.call
if ARGV[1] ~= '' then return c('LREM', KEYS[1], 1, ARGV[1]) end
local gone = c('RPOP', KEYS[1], ARGV[2])
return gone and #gone or 0
