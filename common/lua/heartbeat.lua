#!lua flags=allow-oom
-- Renews a lease and says what there is to do.
--
-- KEYS 1 inf
-- ARGV 1 prefix  2 wid  3 lease ms  4 card ttl ms  5 tombstones at most
--      6 for how long, ms  7 cancels to tell at most, then the card's words
-- Answer: 0 if fenced; else 1, now ms, entries in flight, peers, one whose
--      lease is over or '', earliest due ms or 0, paused, then ids of jobs it
--      has started and that are to be cancelled
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
  unpack(ARGV, 8))
c('PEXPIRE', card, ARGV[4])

local expired = c('ZRANGEBYSCORE', P .. ':wk', '-inf', now, 'LIMIT', 0, 1)
local due = c('ZRANGE', P .. ':delayed', 0, 0, 'WITHSCORES')
local conf = c('HGET', P .. ':conf', 'paused') or '0'
-- Whoever wrote `yes` meant it, too.
local paused = conf ~= '' and conf ~= '0'
local answer = {1, now, c('HLEN', KEYS[1]) - (held[2] and 2 or 1),
                c('ZCARD', P .. ':wk') - 1, expired[1] or '',
                math.floor(tonumber(due[2]) or 0), paused and 1 or 0}

-- Tombstones. The channel tells of them at once; this is for messages that were
-- lost, and to tidy up.
local cx, keep = P .. ':cx', tonumber(ARGV[6])
if c('EXISTS', cx) == 0 then return answer end

local function tell()
  local ids, most = c('HVALS', P .. ':run:' .. wid), tonumber(ARGV[7])
  for from = 1, #ids, 1000 do
    local some = {unpack(ids, from, math.min(from + 999, #ids))}
    for i, score in ipairs(c('ZMSCORE', cx, unpack(some))) do
      if score and most > 0 then
        answer[#answer + 1], most = some[i], most - 1
      end
    end
  end
end

-- Scores that are no time of the last day (0: a client without a clock) are
-- taken for now.
local function stamp(from, to)
  for _, id in ipairs(c('ZRANGE', cx, from, to, 'BYSCORE', 'LIMIT', 0, 100)) do
    c('ZADD', cx, string.format('%.0f', now), id)
  end
end

-- The hash remembers for as long as the job waits; what has ended needs no
-- tombstone, and must leave none for a later job with its id.
local OPEN = {queued = true, delayed = true, running = true}
local function tidy(id)
  local job = P .. ':job:' .. id
  local is = c('HMGET', job, 'status', 'cancel_requested_at')
  if is[1] and not OPEN[is[1]] then
    c('ZREM', cx, id)
  elseif is[1] and not is[2] then
    c('HSET', job, 'cancel_requested_at', string.format('%.3f', now / 1000))
  end
end

tell()
local day = 86400000
stamp('-inf', string.format('(%.0f', now - day))
stamp(string.format('(%.0f', now + keep), '+inf')
c('ZREMRANGEBYSCORE', cx, string.format('%.0f', now - day),
  string.format('(%.0f', now - keep))
c('ZREMRANGEBYRANK', cx, 0, -1 - tonumber(ARGV[5]))
for _, id in ipairs(c('ZRANDMEMBER', cx, 20)) do tidy(id) end
return answer
