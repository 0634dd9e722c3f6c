#!lua flags=allow-oom
-- Ends a job where it waits, before anybody claims it: takes its element away
-- and writes the result with its counters, in one step.
--
-- KEYS 1 cx  2 queue or delayed  3 job hash  4 stats  5 minute stats  6 batch
--      7 events
-- ARGV 1 'q' or 'd'  2 element  3 parent token or ''  4 token  5 job id
--      6 verdict  7 result ttl ms  8 done channel  9 minute ttl s
--      10 flags (b: batch, e: events), then hash words
-- Answer: 1 ended, 0 it does not wait there any more
local c = redis.call
local job, parent, verdict, ttl = KEYS[3], ARGV[3], ARGV[6], ARGV[7]

-- As for a start: the hash is free, or waits for this very entry.
local now = c('HMGET', job, 'status', 'token')
local status, owner = now[1], now[2]
local open = {queued = true, delayed = true, running = true}
if status then
  local heir = owner and parent ~= '' and owner == parent
  if not open[status] or not heir then return 0 end
end

local gone
if ARGV[1] == 'q' then
  gone = c('LREM', KEYS[2], -1, ARGV[2])
else
  gone = c('ZREM', KEYS[2], ARGV[2])
end
if gone == 0 then return 0 end

c('HSET', job, 'token', ARGV[4], unpack(ARGV, 11))
c('PEXPIRE', job, ttl)
c('ZREM', KEYS[1], ARGV[5])
for i = 4, 5 do
  for _, field in ipairs({'ended', 'settled', 'verdict:' .. verdict}) do
    c('HINCRBY', KEYS[i], field, 1)
  end
end
c('EXPIRE', KEYS[5], ARGV[9])
if ARGV[10]:find('b', 1, true) then
  local done = c('HINCRBY', KEYS[6], 'done', 1)
  c('HINCRBY', KEYS[6], 'failed', 1)
  local total = tonumber(c('HGET', KEYS[6], 'total'))
  if total and done > total then -- a bare push joined it
    total = done
    c('HSET', KEYS[6], 'total', total)
  end
  c('HSETNX', KEYS[6], 'succeeded', '0')
  c('HSET', KEYS[6], 'status',
    (total and done >= total) and 'completed' or 'running')
  c('PEXPIRE', KEYS[6], ttl)
end
if ARGV[10]:find('e', 1, true) then
  c('XADD', KEYS[7], '*', 'type', 'end', 'verdict', verdict)
  c('PEXPIRE', KEYS[7], ttl)
end
c('PUBLISH', ARGV[8], ARGV[5])
return 1
