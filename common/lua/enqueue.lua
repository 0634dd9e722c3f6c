#!lua
-- Accepts one job under an id of its own. Refused by a full Redis.
--
-- KEYS 1 queue  2 job hash  3 delayed  4 stats  5 cx  6 events  7 batch
-- ARGV 1 queue name  2 job id  3 body  4 delay ms  5 queue bound or 0
--      6 nonce or ''  7 flags (e: event, b: one more of the batch)  8 tenant whose the batch must be, or
--      ''  9 ttl of the batch ms, then hash words
-- Answer: 0 accepted, 1 the id is taken, 2 the queue is full, 3 the batch is
--      somebody else's
local c = redis.call
local queue, job, id, body = KEYS[1], KEYS[2], ARGV[2], ARGV[3]
local delay, bound = tonumber(ARGV[4]), tonumber(ARGV[5])

local time = c('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
-- The hash belongs to this entry and no other one with the same id.
local token = 'e.' .. (ARGV[6] ~= '' and ARGV[6] or time[1] .. '.' .. time[2])

if c('EXISTS', job) == 1 then
  local same = ARGV[6] ~= '' and c('HGET', job, 'nonce') == ARGV[6]
  return same and 0 or 1
end
if bound > 0 and c('LLEN', queue) >= bound then return 2 end

-- A batch is its first tenant's. One that was there without belongs to all.
if ARGV[8] ~= '' then
  local tenant = c('HGET', KEYS[7], 'tenant')
  if tenant and tenant ~= ARGV[8] then return 3 end
  if tenant or c('EXISTS', KEYS[7]) == 0 then
    c('HSET', KEYS[7], 'tenant', ARGV[8])
    c('PEXPIRE', KEYS[7], ARGV[9])
  end
end

local entry = string.format('!t%.0f;i%s;p%s|', now, id, token) .. body
local words = {}
for i = 10, #ARGV do words[#words + 1] = ARGV[i] end
for _, word in ipairs({'status', delay > 0 and 'delayed' or 'queued',
                       'enqueued_at', string.format('%.3f', now / 1000),
                       'queue', ARGV[1], 'token', token,
                       'nonce', ARGV[6]}) do
  words[#words + 1] = word
end
if ARGV[6] == '' then
  words[#words], words[#words - 1] = nil, nil
end
c('HSET', job, unpack(words))
-- A cancel of an earlier job with this id is not meant for this one.
c('ZREM', KEYS[5], id)
if ARGV[7]:find('b', 1, true) then
  for _, field in ipairs({'done', 'succeeded', 'failed'}) do
    c('HSETNX', KEYS[7], field, '0')
  end
  c('HINCRBY', KEYS[7], 'single', 1)
  c('HINCRBY', KEYS[7], 'total', 1)
  c('HSET', KEYS[7], 'status', 'running')
  c('PEXPIRE', KEYS[7], ARGV[9])
end
if ARGV[7]:find('e', 1, true) then
  c('XADD', KEYS[6], '*', 'type', 'state', 'data',
    delay > 0 and 'delayed' or 'queued')
end
if delay > 0 then
  c('HSET', job, 'due_at', string.format('%.3f', (now + delay) / 1000))
  c('ZADD', KEYS[3], string.format('%.0f', now + delay),
    ARGV[1] .. ' ' .. token .. ' ' .. id .. ' ' .. entry)
else
  c('LPUSH', queue, entry)
end
c('HINCRBY', KEYS[4], 'accepted', 1)
return 0
