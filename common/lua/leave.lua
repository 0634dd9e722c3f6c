#!lua flags=allow-oom
-- A worker incarnation leaves for good. May be repeated.
--
-- KEYS 1 inf
-- ARGV 1 prefix  2 wid
-- Answer: 0 it still holds something, 1 gone
local c = redis.call
local P, inf, wid = ARGV[1], KEYS[1], ARGV[2]

local held = c('HMGET', inf, '_', '=')
if not held[1] then return 1 end -- left before, or given up by others
if c('HLEN', inf) > (held[2] and 2 or 1) then return 0 end

local names = c('HGET', P .. ':wkq', wid) or ''
for queue in names:gmatch('[^,]+') do
  local private = P .. ':p:' .. wid .. ':' .. queue
  while c('LMOVE', private, P .. ':queue:' .. queue, 'LEFT', 'RIGHT') do
    c('HINCRBY', P .. ':stats', 'rescued', 1)
  end
end

local time = c('TIME')
c('HINCRBY', P .. ':stats', 'claims_of_the_left', held[1])
c('DEL', inf, P .. ':run:' .. wid, P .. ':worker:' .. wid)
c('ZREM', P .. ':wk', wid)
-- A blocked move of it may still land in its private list.
c('ZADD', P .. ':graves', time[1] .. '000', wid)
return 1
