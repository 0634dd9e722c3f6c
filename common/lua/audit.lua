#!lua flags=no-writes
-- The books. Reads only; O(workers + queues).
--
-- KEYS 1 stats
-- ARGV 1 prefix, then queue names
-- Answer: queued, delayed, running, private, terminal, duplicates, claims,
--      given back, accepted, settled
local c = redis.call
local P = ARGV[1]

local queued = 0
for i = 2, #ARGV do queued = queued + c('LLEN', P .. ':queue:' .. ARGV[i]) end

local function in_private_lists(wid)
  local sum, names = 0, c('HGET', P .. ':wkq', wid) or ''
  for queue in names:gmatch('[^,]+') do
    sum = sum + c('LLEN', P .. ':p:' .. wid .. ':' .. queue)
  end
  return sum
end

local names = {'claims_of_the_left', 'ended', 'duplicates', 'released',
               'retries', 'delayed', 'recovered', 'accepted', 'settled'}
local sums = {}
for i, value in ipairs(c('HMGET', KEYS[1], unpack(names))) do
  sums[names[i]] = tonumber(value) or 0
end

local claims, running, private = sums.claims_of_the_left, 0, 0
for _, wid in ipairs(c('ZRANGE', P .. ':wk', 0, -1)) do
  local inf = P .. ':inf:' .. wid
  local held = c('HMGET', inf, '_', '=')
  claims = claims + (tonumber(held[1]) or 0)
  running = running + c('HLEN', inf)
            - (held[1] and 1 or 0) - (held[2] and 1 or 0)
  private = private + in_private_lists(wid)
end
for _, wid in ipairs(c('ZRANGE', P .. ':graves', 0, -1)) do
  if not c('ZSCORE', P .. ':wk', wid) then
    private = private + in_private_lists(wid)
  end
end

return {queued, c('ZCARD', P .. ':delayed'), running, private, sums.ended,
        sums.duplicates, claims,
        sums.released + sums.retries + sums.delayed + sums.recovered,
        sums.accepted, sums.settled}
