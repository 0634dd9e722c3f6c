#!lua flags=allow-oom
-- Finishes n claims and takes up to k new ones: the only hot call.
--
-- KEYS 1 inf  2 run  3 delayed  4 dead  5 stats  6 minute stats,
--      q private lists, q queues, then per finish: job hash and, as its flags
--      say, t: template stats, b: batch, e: events, q: queue
-- ARGV 1 sequence  2 wid  3 k  4 q  5 n  6 result ttl ms  7 dead list bound
--      8 done channel  9 minute ttl s, q queue names, then per finish:
--      kind, field, token, job id, flags, verdict or due, microseconds, bucket,
--      entry, how many hash words, hash words
-- Answer: last claim number before this call (-1: fenced), acks as digits,
--      trouble, then queue index and entries, as often as a queue gave some.
local c = redis.call
local inf, run = KEYS[1], KEYS[2]
local sequence, wid, want = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local nq, nf, ttl = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]

local state = c('HMGET', inf, '_', '=')
local base = tonumber(state[1])
local record = state[2]

-- A number that was seen: a resend after a lost reply gets the same answer, a
-- straggler of an old connection must not do anything.
local function repeated()
  local acks, first, runs = record:match('^%d+ (%d*) (%d+) (.*)$')
  local answer = {base and tonumber(first) or -1, (acks:gsub('1', '2')), ''}
  local n = tonumber(first)
  if not base then return answer end
  for index, count in runs:gmatch('(%d+):(%d+)') do
    local fields = {}
    for i = 1, tonumber(count) do
      fields[i] = (n + i) .. '@' .. ARGV[10 + tonumber(index)]
    end
    n = n + #fields
    answer[#answer + 1] = tonumber(index)
    answer[#answer + 1] = c('HMGET', inf, unpack(fields))
  end
  return answer
end
if record then
  local last = tonumber(record:match('^%d+'))
  if sequence == last then return repeated() end
  if sequence < last then
    return redis.error_reply('ERR exchange ' .. ARGV[1] .. ' is over')
  end
end

local all, templates, batches, memo = {}, {}, {}, {}
local marks, ended, acks = {}, {}, {}

local function count(template, field, by)
  all[field] = (all[field] or 0) + by
  if template then template[field] = (template[field] or 0) + by end
end

local function flags_of(text)
  local set = memo[text]
  if not set then
    set = {}
    for letter in text:gmatch('.') do set[letter] = true end
    memo[text] = set
  end
  return set
end

-- Someone may have put another type under the name: the result counts more.
local function write_job(key, from, to)
  local answer = redis.pcall('HSET', key, unpack(ARGV, from, to))
  if type(answer) == 'table' and answer.err then
    c('DEL', key)
    c('HSET', key, unpack(ARGV, from, to))
  end
end

local function finish_batch(key, has)
  local batch = batches[key] or {done = 0, succeeded = 0, failed = 0}
  batch.done = batch.done + 1
  local field = has.o and 'succeeded' or 'failed'
  batch[field] = batch[field] + 1
  batches[key] = batch
end

local function finish_end(f, has)
  write_job(f.job, f.from, f.to)
  c('PEXPIRE', f.job, ttl)
  ended[#ended + 1] = f.id
  local t = f.template
  count(t, 'ended', 1)
  count(t, 'verdict:' .. f.what, 1)
  if has.x then
    count(t, 'total_executions', 1)
    count(t, has.o and 'successful_executions' or 'failed_executions', 1)
    count(t, 'total_execution_time', tonumber(f.micros))
    count(t, f.bucket, 1)
  end
  if has.D then count(t, 'dead', 1) end
  if f.what == 'rejected' then count(t, 'rejected', 1) end
  if f.entry ~= '' then
    c('LPUSH', KEYS[4], f.entry)
    c('LTRIM', KEYS[4], 0, tonumber(ARGV[7]) - 1)
  end
  if f.events then
    c('XADD', f.events, '*', 'type', 'end', 'verdict', f.what)
    c('PEXPIRE', f.events, ttl)
  end
  if f.batch then finish_batch(f.batch, has) end
end

local function give_back(f, has, kind)
  local status = 'delayed'
  if kind == 'L' then
    c('RPUSH', f.queue, f.entry)
    count(nil, 'released', 1)
    status = 'queued'
  else
    -- The token makes the member unique, whatever the entry says.
    local id = has.m and f.id or '-'
    local queue = f.field:match('@(.*)$')
    c('ZADD', KEYS[3], f.what,
      queue .. ' ' .. f.token .. ' ' .. id .. ' ' .. f.entry)
    count(f.template, kind == 'R' and 'retries' or 'delayed', 1)
  end
  if has.m then
    if f.to >= f.from then write_job(f.job, f.from, f.to) end
    c('HSET', f.job, 'status', status)
  end
end

-- A start mark carries the token too: only a terminal status is an end.
local OPEN = {queued = true, delayed = true, running = true}
local function was_ended_by(job, token)
  local now = c('HMGET', job, 'token', 'status')
  return now[1] == token and not OPEN[now[2]]
end

local ki, ai = 6 + 2 * nq, 9 + nq

local function key_if(flag)
  if not flag then return nil end
  ki = ki + 1
  return KEYS[ki]
end

local function template_sums(key)
  if not key then return nil end
  templates[key] = templates[key] or {}
  return templates[key]
end

for i = 1, nf do
  local kind, field, token = ARGV[ai + 1], ARGV[ai + 2], ARGV[ai + 3]
  local has = flags_of(ARGV[ai + 5])
  local f = {field = field, token = token, id = ARGV[ai + 4],
             what = ARGV[ai + 6], micros = ARGV[ai + 7], bucket = ARGV[ai + 8],
             entry = ARGV[ai + 9], from = ai + 11,
             to = ai + 10 + tonumber(ARGV[ai + 10])}
  ai = f.to
  f.job = key_if(true)
  f.template = template_sums(key_if(has.t))
  f.batch, f.events = key_if(has.b), key_if(has.e)
  f.queue = key_if(has.q)

  if base and c('HDEL', inf, field) == 1 then -- ours, and now let go
    acks[i] = '1'
    if has.m then marks[#marks + 1] = field end
    if has.s then marks[#marks + 1] = '!' end
    if has.c then count(f.template, 'sandbox_created', 1) end
    if has.d then count(f.template, 'sandbox_destroyed', 1) end
    if kind == 'E' then
      finish_end(f, has)
    elseif kind == 'U' then
      count(nil, 'duplicates', 1)
    else
      give_back(f, has, kind)
    end
  elseif kind == 'E' and was_ended_by(f.job, token) then
    acks[i] = '2'
  else
    acks[i] = '0'
    count(nil, 'late', 1)
  end
end
if #marks > 0 then c('HDEL', run, unpack(marks)) end

local answer = {base or -1, table.concat(acks), ''}
if base then
  -- One call as a rule: the lists before the one that gave are empty, and so
  -- is that one if it gave less than asked for.
  local set, runs, at, n = {'_', '', '=', ''}, {}, 0, base
  while want > 0 and at < 2 * nq do
    local call = {'LMPOP', 2 * nq - at}
    for i = at + 1, 2 * nq do call[#call + 1] = KEYS[6 + i] end
    call[#call + 1], call[#call + 2], call[#call + 3] = 'RIGHT', 'COUNT', want
    local got = redis.pcall(unpack(call))
    if not got then break end
    if got.err then
      answer[3] = got.err
      break
    end
    repeat at = at + 1 until KEYS[6 + at] == got[1]
    local index, entries = (at - 1) % nq, got[2]
    local suffix = '@' .. ARGV[10 + index]
    for i = 1, #entries do
      n = n + 1
      set[#set + 1] = n .. suffix
      set[#set + 1] = entries[i]
    end
    want = want - #entries
    runs[#runs + 1] = index .. ':' .. #entries
    answer[#answer + 1] = index
    answer[#answer + 1] = entries
  end
  set[2] = string.format('%.0f', n)
  set[4] = ARGV[1] .. ' ' .. answer[2] .. ' ' .. state[1] .. ' '
           .. table.concat(runs, ',')
  c('HSET', inf, unpack(set))
end

-- Everything above is recorded by now; what follows only counts and tells.
-- Numbers are written whole: a Lua number would turn to 1e+15 one day.
local function write_sums(key, sums)
  local fields, call, fresh = {}, {}, true
  for field in pairs(sums) do fields[#fields + 1] = field end
  local old = c('HMGET', key, unpack(fields))
  for i, field in ipairs(fields) do
    local value = tonumber(old[i]) or 0
    if old[i] then fresh = false end
    call[2 * i - 1] = field
    if field == 'total_execution_time' then
      value = math.floor(value * 1000000 + 0.5) + sums[field]
      call[2 * i] = string.format('%.6f', value / 1000000)
    else
      call[2 * i] = string.format('%.0f', value + sums[field])
    end
  end
  c('HSET', key, unpack(call))
  return fresh
end

if next(all) then
  write_sums(KEYS[5], all)
  if write_sums(KEYS[6], all) then c('EXPIRE', KEYS[6], ARGV[9]) end
end
for key, sums in pairs(templates) do
  if next(sums) then write_sums(key, sums) end
end
for key, add in pairs(batches) do
  local now = c('HMGET', key, 'total', 'done', 'succeeded', 'failed')
  local done = (tonumber(now[2]) or 0) + add.done
  local total = tonumber(now[1])
  c('HSET', key, 'done', done,
    'succeeded', (tonumber(now[3]) or 0) + add.succeeded,
    'failed', (tonumber(now[4]) or 0) + add.failed,
    'status', (total and done >= total) and 'completed' or 'running')
  c('PEXPIRE', key, ttl)
end
-- The first one tells whether anybody listens.
for i = 1, #ended do
  if c('PUBLISH', ARGV[8], ended[i]) == 0 then break end
end
return answer
