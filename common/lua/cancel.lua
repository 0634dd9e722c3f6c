#!lua flags=allow-oom
-- Asks for a job's end: leaves a tombstone, tells the workers, and looks for
-- the job where it waits. Nothing is taken away: settle.lua does that.
--
-- KEYS 1 cx
-- ARGV 1 prefix  2 job id  3 tombstones at most  4 entries to look at
--      5 bytes to look at  6 tenant whose it may be, or '': anybody's  7 flags
--      (k: keep a tombstone also of what nothing is known of), then queues to
--      look through if nobody knows its one
-- Answer: 0 it has ended, 1 it runs, 2 it waits, 3 nothing is known of it, 4 it
--      is another tenant's (nothing was done); then status, verdict, now ms,
--      'q' or 'd' (queue, delayed) or '' if it was not found waiting, the
--      queue's name, the list's or set's element
local c = redis.call
local P, id = ARGV[1], ARGV[2]
local job = P .. ':job:' .. id

local time = c('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local hash = c('HMGET', job, 'status', 'verdict', 'token', 'queue', 'due_at',
               'cancel_requested_at', 'tenant')
local status, owner, due = hash[1], hash[3], hash[5]
if ARGV[6] ~= '' and hash[7] and hash[7] ~= ARGV[6] then
  return {4, '', '', now, '', '', ''}
end
local OPEN = {queued = true, delayed = true, running = true}
if status and not OPEN[status] then
  return {0, status, hash[2] or '', now, '', '', ''}
end

if status or ARGV[7]:find('k', 1, true) then
  c('ZADD', KEYS[1], string.format('%.0f', now), id)
  c('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[3]))
  c('PUBLISH', P .. ':control', id)
end
-- A tombstone is forgotten after a while; this is not.
if status and not hash[6] then
  c('HSET', job, 'cancel_requested_at', string.format('%.3f', now / 1000))
end
if status == 'running' then return {1, status, '', now, '', '', ''} end

-- The entry that owns the hash names its owner in the envelope; without a hash
-- whoever has the id will do.
local function is_it(entry)
  local head = entry:byte(1) == 33 and entry:sub(1, 512):match('^!([^|]*)|')
  head = head and ';' .. head .. ';'
  if owner then
    return head and head:find(';p' .. owner .. ';', 1, true)
  end
  return (head and head:find(';i' .. id .. ';', 1, true))
         or entry:find('"' .. id .. '"', 1, true)
end

local left, bytes, seen = tonumber(ARGV[4]), tonumber(ARGV[5]), 0

-- page(at, n): the n elements behind the first `at` of them.
local function look(page, entry_of)
  local at, step = 0, 4
  while left > 0 and bytes > 0 do
    local got = page(at, step)
    if got.err or #got == 0 then return nil end
    for _, element in ipairs(got) do
      left, bytes, seen = left - 1, bytes - #element, seen + #element
      if is_it(entry_of(element)) then return element end
    end
    at = at + step
    -- Small ones are fetched many at a time.
    step = seen / at < 2048 and 100 or 4
  end
end

local function in_queue(name)
  local key = P .. ':queue:' .. name
  return look(function(at, n)
    local got, back = redis.pcall('LRANGE', key, -at - n, -at - 1), {}
    if got.err then return got end
    for i = #got, 1, -1 do back[#back + 1] = got[i] end
    return back
  end, function(element) return element end)
end

-- "<queue> <token> <job id or -> <entry>"
local function delayed_entry(member)
  return member:match('^%S+ %S+ %S+ (.*)$') or ''
end
local function in_delayed(from, to)
  return look(function(at, n)
    return redis.pcall('ZRANGE', P .. ':delayed', from, to, 'BYSCORE', 'LIMIT',
                       at, n)
  end, delayed_entry)
end

local function find()
  local element
  if due then
    local score = due:gsub('%.', '')
    element = in_delayed(score, score)
    if element then return 'd', '', element end
  end
  local names = hash[4] and {hash[4]} or {unpack(ARGV, 8)}
  for _, name in ipairs(names) do
    element = in_queue(name)
    if element then return 'q', name, element end
  end
  element = in_delayed('-inf', '+inf')
  if element then return 'd', '', element end
  return '', '', ''
end
local kind, queue, element = find()
return {status and 2 or 3, status or '', '', now, kind, queue, element}
