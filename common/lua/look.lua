#!lua flags=no-writes
-- Looks for where a job waits, through one piece of a queue (the newest first)
-- or of the delayed set (the earliest first).
--
-- KEYS 1 queue or delayed
-- ARGV 1 job id  2 the token that its hash waits for, or '': whoever has the id
--      3 elements to skip  4 elements to look at  5 bytes to look at
--      6 7 lowest and highest score; only of the delayed set
-- Answer: how many elements were looked at; 1 if there may be more behind them;
--      then the element, if it was found
local c = redis.call
local id, owner = ARGV[1], ARGV[2]
local from, left, bytes = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

local function page(at, n)
  if ARGV[6] then
    return redis.pcall('ZRANGE', KEYS[1], ARGV[6], ARGV[7], 'BYSCORE', 'LIMIT',
                       at, n)
  end
  return redis.pcall('LRANGE', KEYS[1], at, at + n - 1)
end

-- The entry that owns the hash names its owner in the envelope; without a hash
-- whoever has the id will do. A member of the delayed set is
-- "<queue> <token> <job id or -> <entry>".
local function is_it(element)
  local entry = ARGV[6] and (element:match('^%S+ %S+ %S+ (.*)$') or '')
                or element
  local head = entry:byte(1) == 33 and entry:sub(1, 512):match('^!([^|]*)|')
  head = head and ';' .. head .. ';'
  if owner ~= '' then
    return head and head:find(';p' .. owner .. ';', 1, true)
  end
  return (head and head:find(';i' .. id .. ';', 1, true))
         or entry:find('"' .. id .. '"', 1, true)
end

local at, seen, step = 0, 0, 4
while at < left and seen < bytes do
  local got = page(from + at, math.min(step, left - at))
  if got.err or #got == 0 then return {at, 0} end
  for i, element in ipairs(got) do
    if is_it(element) then return {at + i, 1, element} end
    seen = seen + #element
  end
  at = at + #got
  -- Small ones are fetched many at a time.
  step = seen / at < 2048 and 100 or 4
end
return {at, 1}
