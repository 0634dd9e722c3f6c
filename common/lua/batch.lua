#!lua
-- Creates a batch, also when its first jobs have ended already.
--
-- KEYS 1 batch
-- ARGV 1 total  2 ttl ms
local c = redis.call
local done = tonumber(c('HGET', KEYS[1], 'done')) or 0
local whole = done >= tonumber(ARGV[1])
c('HSET', KEYS[1], 'total', ARGV[1],
  'status', whole and 'completed' or 'running')
for _, field in ipairs({'done', 'succeeded', 'failed'}) do
  c('HSETNX', KEYS[1], field, '0')
end
c('PEXPIRE', KEYS[1], ARGV[2])
return 'OK'
