#!lua flags=allow-oom
-- Brings back what blocked moves put into the private lists of the reaped, and
-- forgets who has been gone for long enough.
--
-- KEYS 1 graves
-- ARGV 1 prefix  2 remember for ms  3 how many graves at most
-- Answer: entries moved
local c = redis.call
local P, graves, most = ARGV[1], KEYS[1], tonumber(ARGV[3])

local time = c('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local lists, queue_of, moved = {}, {}, 0

-- One call looks at a thousand lists.
local function visit()
  while #lists > 0 do
    local call = {'LMPOP', #lists}
    for i = 1, #lists do call[#call + 1] = lists[i] end
    call[#call + 1], call[#call + 2], call[#call + 3] = 'LEFT', 'COUNT', 100
    local got = c(unpack(call))
    if not got then break end
    c('RPUSH', queue_of[got[1]], unpack(got[2]))
    moved = moved + #got[2]
  end
  lists = {}
end

local wids = c('ZREVRANGE', graves, 0, -1)
for i = 1, #wids, 100 do
  local names = c('HMGET', P .. ':wkq', unpack(wids, i,
                                               math.min(i + 99, #wids)))
  for k, queues in ipairs(names) do
    for queue in (queues or ''):gmatch('[^,]+') do
      local list = P .. ':p:' .. wids[i + k - 1] .. ':' .. queue
      lists[#lists + 1] = list
      queue_of[list] = P .. ':queue:' .. queue
    end
  end
  if #lists > 900 then visit() end
end
visit()
if moved > 0 then c('HINCRBY', P .. ':stats', 'rescued', moved) end

local old = c('ZRANGEBYSCORE', graves, '-inf', now - tonumber(ARGV[2]),
              'LIMIT', 0, 1000)
for i = most + 1, math.min(#wids, most + 1000) do old[#old + 1] = wids[i] end
for _, wid in ipairs(old) do
  c('ZREM', graves, wid)
  c('HDEL', P .. ':wkq', wid)
end
return moved
