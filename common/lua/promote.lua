#!lua flags=allow-oom
-- Moves due entries from the delayed set to their queues.
--
-- KEYS 1 delayed
-- ARGV 1 prefix  2 chunk
-- Answer: entries moved, the next one's due ms or 0
local c = redis.call
local P, delayed = ARGV[1], KEYS[1]

local time = c('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local due = c('ZRANGE', delayed, '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[2])
for _, member in ipairs(due) do
  -- "<queue> <token> <job id or -> <entry>"
  local queue, id, entry = member:match('^(%S+) %S+ (%S+) (.*)$')
  if queue then
    c('LPUSH', P .. ':queue:' .. queue, entry)
    local job = P .. ':job:' .. id
    if id ~= '-' and c('HGET', job, 'status') == 'delayed' then
      c('HSET', job, 'status', 'queued')
    end
  end
end
if #due > 0 then c('ZREM', delayed, unpack(due)) end
local first = c('ZRANGE', delayed, 0, 0, 'WITHSCORES')
return {#due, math.floor(tonumber(first[2]) or 0)}
