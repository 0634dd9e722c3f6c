#!lua flags=allow-oom
-- Shuts a worker incarnation out: from here on it claims and finishes nothing.
--
-- KEYS 1 inf
-- ARGV 1 prefix  2 wid  3 force
-- Answer: 0 its lease is not over, else 1; then its connections' ids
local c = redis.call
local P, inf, wid, force = ARGV[1], KEYS[1], ARGV[2], ARGV[3] == '1'

local time = c('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local lease = tonumber(c('ZSCORE', P .. ':wk', wid))
if lease and lease > now and not force then return {0, ''} end

local issued = c('HGET', inf, '_')
if issued then
  -- A mark whose claim is over accuses nobody.
  local run = P .. ':run:' .. wid
  local guilty = c('HGET', run, '!')
  if guilty and c('HEXISTS', inf, guilty) == 0 then c('HDEL', run, '!') end
  c('HDEL', inf, '_')
  c('HINCRBY', P .. ':stats', 'claims_of_the_left', issued)
  c('ZADD', P .. ':graves', now, wid)
end
-- If the reaper dies here, everybody sees that there is work left.
if lease then c('ZADD', P .. ':wk', 'XX', 0, wid) end
return {1, c('HGET', P .. ':worker:' .. wid, 'client_ids') or ''}
