#!lua flags=allow-oom
-- Makes a worker incarnation known. May be repeated.
--
-- KEYS 1 conf
-- ARGV 1 prefix  2 protocol version  3 wid  4 lease ms  5 queues, comma
--      separated  6 card ttl ms, then the card's words
local c = redis.call
local P, version, wid = ARGV[1], ARGV[2], ARGV[3]

local used = c('HGET', KEYS[1], 'version')
if used and used ~= version and c('ZCARD', P .. ':wk') > 0 then
  return redis.error_reply('VERSION workers on this Redis use protocol '
    .. used .. ', this one speaks ' .. version)
end
if c('ZSCORE', P .. ':graves', wid) then
  return redis.error_reply('FENCED ' .. wid .. ' was given up')
end
if used ~= version then c('HSET', KEYS[1], 'version', version) end

local time = c('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
c('HSETNX', P .. ':inf:' .. wid, '_', '0')
c('ZADD', P .. ':wk', 'GT', string.format('%.0f', now + tonumber(ARGV[4])), wid)
c('HSET', P .. ':wkq', wid, ARGV[5])
local card = P .. ':worker:' .. wid
c('HSET', card, 'heartbeat', time[1] .. '.' .. string.format('%06d', time[2]),
  unpack(ARGV, 7))
c('PEXPIRE', card, ARGV[6])
return 'OK'
