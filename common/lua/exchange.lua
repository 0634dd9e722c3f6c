#!lua flags=allow-oom
-- Finishes n claims and takes up to k new ones: the only hot call.
--
-- KEYS 1 inf  2 run  3 delayed  4 dead  5 stats  6 minute stats  7 cx,
--      q private lists, q queues, then per finish: job hash and, as its flags
--      say, template stats, batch, events, queue
-- ARGV 1 sequence  2 k  3 q  4 n  5 result ttl ms  6 dead list bound
--      7 done channel  8 minute ttl s, q queue names, then per finish
--      msgpack of class, field, token, job id, microseconds or due ms, name;
--      msgpack of the hash's words; the value of name, if it is there; the
--      entry, if flag y is set. Packed, because a word of its own costs Redis
--      as much as the work; but what is large is dear to pack, as Lua hashes
--      every byte of every string it is handed.
--      Flags: m start-marked, s suspect, c sandbox created, d destroyed,
--      x code started, h from the cache, o success, D dead, t template key, b batch key,
--      e events key, q queue key, y entry, w a delay that shows in the hash
-- Answer: last claim number before this call (-1: fenced), acks as digits,
--      trouble, then queue index and entries, as often as a queue gave some.
local c = redis.call
local inf, run = KEYS[1], KEYS[2]
local sequence, want = tonumber(ARGV[1]), tonumber(ARGV[2])
local nq, nf, ttl = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]

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
      fields[i] = (n + i) .. '@' .. ARGV[9 + tonumber(index)]
    end
    n = n + #fields
    answer[#answer + 1] = tonumber(index)
    answer[#answer + 1] = c('HMGET', inf, unpack(fields))
  end
  return answer
end
local last = record and tonumber(record:match('^%d+')) or 0
if sequence == last then return repeated() end
if sequence < last then
  return redis.error_reply('ERR exchange ' .. ARGV[1] .. ' is over')
end
-- A gap: Redis lost what it had answered (a crash, a failover) and would hand
-- out the same claim numbers again. What this incarnation holds in its memory
-- is no longer what it holds here.
if sequence > last + 1 then base = nil end

-- What finishes have in common is said once, as a class:
-- "<kind><flags> <verdict> <bucket> <language> <template>", so that counting a
-- job is adding 1 to its class.
local classes, batches, marks, ended, acks = {}, {}, {}, {}, {}

local function class_of(text)
  local kind, flags, verdict, bucket, language =
      text:match('^(.)(%S*) (%S*) (%S*) (%S*)')
  local class = {kind = kind, verdict = verdict, bucket = bucket,
                 language = language, n = 0, micros = 0}
  for letter in flags:gmatch('.') do class[letter] = true end
  class.extra = class.b or class.e or class.q or class.y
  classes[text] = class
  return class
end

-- name, value: the largest of the hash, if it is large. Someone may have put
-- another type under the key: the result counts more.
local function write_job(key, packed, name, value)
  local answer
  if name then
    answer = redis.pcall('HSET', key, name, value, cmsgpack.unpack(packed))
  else
    answer = redis.pcall('HSET', key, cmsgpack.unpack(packed))
  end
  if type(answer) == 'table' and answer.err and c('DEL', key) == 1 then
    write_job(key, packed, name, value)
  end
end

local function finish_batch(key, class)
  local batch = batches[key] or {done = 0, succeeded = 0, failed = 0}
  local field = class.o and 'succeeded' or 'failed'
  batch.done = batch.done + 1
  batch[field] = batch[field] + 1
  batches[key] = batch
end

local function end_extras(class, batch, events, dead)
  if dead then
    c('LPUSH', KEYS[4], dead)
    c('LTRIM', KEYS[4], 0, tonumber(ARGV[6]) - 1)
  end
  if events then
    c('XADD', events, '*', 'type', 'end', 'verdict', class.verdict)
    c('PEXPIRE', events, ttl)
  end
  if batch then finish_batch(batch, class) end
end

local OPEN = {queued = true, delayed = true, running = true}

-- A delay without a start mark shows in the hash if that is free or waits for
-- this entry. The packed words end with the entry's parent.
local function show_delay(job, packed)
  local words = {cmsgpack.unpack(packed)}
  local now = redis.pcall('HMGET', job, 'status', 'token')
  if now.err then return false end
  if now[1] and not (OPEN[now[1]] and now[2] == words[#words]) then
    return false
  end
  write_job(job, packed)
  return true
end

-- hashed: the job's hash says that it goes back.
local function give_back(class, hashed, queue_key, events, field, token, id, due,
                         entry)
  if events and hashed then
    c('XADD', events, '*', 'type', 'state',
      'data', class.kind == 'L' and 'queued' or 'delayed')
  end
  if class.kind == 'L' then
    c('RPUSH', queue_key, entry)
    return
  end
  -- The token makes the member unique, whatever the entry says.
  local queue = field:match('@(.*)$')
  local owner = hashed and id or '-'
  c('ZADD', KEYS[3], due,
    queue .. ' ' .. token .. ' ' .. owner .. ' ' .. entry)
end

-- A start mark carries the token too: only a terminal status is an end.
local function was_ended_by(job, token)
  local now = c('HMGET', job, 'token', 'status')
  return now[1] == token and not OPEN[now[2]]
end

local ki, ai, late = 7 + 2 * nq, 8 + nq, 0

local function key_if(flag)
  if not flag then return nil end
  ki = ki + 1
  return KEYS[ki]
end

for i = 1, nf do
  local text, field, token, id, number, name = cmsgpack.unpack(ARGV[ai + 1])
  local packed, value, entry, batch, events, queue = ARGV[ai + 2]
  local class = classes[text] or class_of(text)
  ki = ki + 1
  local job = KEYS[ki]
  ai = ai + 2
  if name then
    ai = ai + 1
    value = ARGV[ai]
  end
  class.template = key_if(class.t)
  if class.extra then
    batch, events, queue = key_if(class.b), key_if(class.e), key_if(class.q)
    if class.y then
      ai = ai + 1
      entry = ARGV[ai]
    end
  end

  if base and c('HDEL', inf, field) == 1 then -- ours, and now let go
    acks[i] = '1'
    class.n = class.n + 1
    if class.m then marks[#marks + 1] = field end
    if class.s then marks[#marks + 1] = '!' end
    if class.kind == 'E' then
      class.micros = class.micros + number
      write_job(job, packed, name, value)
      c('PEXPIRE', job, ttl)
      ended[#ended + 1] = id
      if class.extra then end_extras(class, batch, events, entry) end
      if class.verdict == 'cancelled' then c('ZREM', KEYS[7], id) end
    elseif class.kind ~= 'U' then
      if class.m then write_job(job, packed, name, value) end
      give_back(class, class.m or class.w and show_delay(job, packed), queue,
                events, field, token, id, number, entry)
    end
  elseif class.kind == 'E' and was_ended_by(job, token) then
    acks[i] = '2'
  else
    acks[i] = '0'
    late = late + 1
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
    for i = at + 1, 2 * nq do call[#call + 1] = KEYS[7 + i] end
    call[#call + 1], call[#call + 2], call[#call + 3] = 'RIGHT', 'COUNT', want
    local got = redis.pcall(unpack(call))
    if not got then break end
    if got.err then
      answer[3] = got.err
      break
    end
    repeat at = at + 1 until KEYS[7 + at] == got[1]
    local index, entries = (at - 1) % nq, got[2]
    local suffix = '@' .. ARGV[9 + index]
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
    if field:sub(-20) == 'total_execution_time' then
      value = math.floor(value * 1000000 + 0.5) + sums[field]
      call[2 * i] = string.format('%.6f', value / 1000000)
    else
      call[2 * i] = string.format('%.0f', value + sums[field])
    end
  end
  c('HSET', key, unpack(call))
  return fresh
end

local all, templates, languages = {}, {}, {}
if late > 0 then all.late = late end

local function count(class, field, by)
  all[field] = (all[field] or 0) + by
  if class.template then
    local sums = templates[class.template] or {}
    sums[field] = (sums[field] or 0) + by
    templates[class.template] = sums
  end
end

local function count_language(class, field, by)
  field = 'language:' .. class.language .. ':' .. field
  languages[field] = (languages[field] or 0) + by
end

local function count_end(class)
  count(class, 'ended', class.n)
  count(class, 'verdict:' .. class.verdict, class.n)
  if class.x then
    count(class, 'total_executions', class.n)
    count(class, class.o and 'successful_executions' or 'failed_executions',
          class.n)
    count(class, 'total_execution_time', class.micros)
    count(class, class.bucket, class.n)
    if class.language ~= '-' then
      count_language(class, class.o and 'successful_executions'
                                     or 'failed_executions', class.n)
      count_language(class, 'total_execution_time', class.micros)
      count_language(class, class.bucket, class.n)
    end
  end
  if class.D then count(class, 'dead', class.n) end
  if class.h then count(class, 'cache_hits', class.n) end
  if class.verdict == 'rejected' then count(class, 'rejected', class.n) end
end

local NAMES = {R = 'retries', D = 'delayed', L = 'released', U = 'duplicates'}
for _, class in pairs(classes) do
  if class.n > 0 then
    if class.kind == 'E' then count_end(class)
    else count(class, NAMES[class.kind], class.n) end
    if class.c then count(class, 'sandbox_created', class.n) end
    if class.d then count(class, 'sandbox_destroyed', class.n) end
  end
end
if next(all) then
  if write_sums(KEYS[6], all) then c('EXPIRE', KEYS[6], ARGV[8]) end
  for field, by in pairs(languages) do all[field] = by end
  write_sums(KEYS[5], all)
end
for key, sums in pairs(templates) do write_sums(key, sums) end
for key, add in pairs(batches) do
  local now = c('HMGET', key, 'total', 'done', 'succeeded', 'failed')
  local done = (tonumber(now[2]) or 0) + add.done
  local total = tonumber(now[1])
  if total and done > total then -- a bare push joined it
    total = done
    c('HSET', key, 'total', total)
  end
  c('HSET', key, 'done', done,
    'succeeded', (tonumber(now[3]) or 0) + add.succeeded,
    'failed', (tonumber(now[4]) or 0) + add.failed,
    'status', (total and done >= total) and 'completed' or 'running')
  c('PEXPIRE', key, ttl)
end
-- The first one tells whether anybody listens.
for i = 1, #ended do
  if c('PUBLISH', ARGV[7], ended[i]) == 0 then break end
end
return answer
