#!lua flags=allow-oom
-- Renews a lease and says what there is to do.
--
-- KEYS 1 inf
-- ARGV 1 prefix  2 wid  3 lease ms  4 card ttl ms, then the card's words
-- Answer: 0 if fenced; else 1, now ms, entries in flight, peers, one whose
--      lease is over or '', earliest due ms or 0, paused
local c = redis.call
local P, wid = ARGV[1], ARGV[2]

local held = c('HMGET', KEYS[1], '_', '=')
if not held[1] then return {0} end

local time = c('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
-- GT: a clock that was set back must not shorten a lease.
c('ZADD', P .. ':wk', 'GT', string.format('%.0f', now + tonumber(ARGV[3])), wid)
local card = P .. ':worker:' .. wid
c('HSET', card, 'heartbeat', time[1] .. '.' .. string.format('%06d', time[2]),
  unpack(ARGV, 5))
c('PEXPIRE', card, ARGV[4])

local expired = c('ZRANGEBYSCORE', P .. ':wk', '-inf', now, 'LIMIT', 0, 1)
local due = c('ZRANGE', P .. ':delayed', 0, 0, 'WITHSCORES')
local paused = c('HGET', P .. ':conf', 'paused')
return {1, now, c('HLEN', KEYS[1]) - (held[2] and 2 or 1),
        c('ZCARD', P .. ':wk') - 1, expired[1] or '',
        math.floor(tonumber(due[2]) or 0), paused == '1' and 1 or 0}
