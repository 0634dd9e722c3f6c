#!lua
-- Creates a batch, also when its first jobs have ended already.
--
-- KEYS 1 batch
-- ARGV 1 total  2 ttl ms
local c = redis.call
local now = c('HMGET', KEYS[1], 'done', 'single')
local done = tonumber(now[1]) or 0
-- Those that joined it one by one are counted already.
local total = tonumber(ARGV[1]) + (tonumber(now[2]) or 0)
local whole = done >= total
c('HSET', KEYS[1], 'total', total,
  'status', whole and 'completed' or 'running')
for _, field in ipairs({'done', 'succeeded', 'failed'}) do
  c('HSETNX', KEYS[1], field, '0')
end
c('PEXPIRE', KEYS[1], ARGV[2])
return 'OK'
