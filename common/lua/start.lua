#!lua flags=allow-oom
-- Marks a claim as started, or moves the suspect's mark.
--
-- KEYS 1 inf  2 run  3 job hash  4 events  5 cx
-- ARGV 1 field  2 token  3 parent token or ''  4 job id  5 flags (s: take the
--      suspect's mark, u: give it back, m: nothing but the mark, e: event)
--      6 bound of the event stream, then hash words
-- Answer: 0 go, 1 the id belongs to another entry, 2 the claim is not ours,
--      3 cancelled: the hash is ours, for nothing but that end
local c = redis.call
local inf, run, job = KEYS[1], KEYS[2], KEYS[3]
local field, token, parent, flags = ARGV[1], ARGV[2], ARGV[3], ARGV[5]
local function has(letter) return flags:find(letter, 1, true) end

if c('HEXISTS', inf, '_') == 0 or c('HEXISTS', inf, field) == 0 then
  return 2
end

local function move_mark()
  if has('s') then
    c('HSET', run, '!', field)
  elseif has('u') and c('HGET', run, '!') == field then
    c('HDEL', run, '!')
  end
end
if has('m') then
  move_mark()
  return 0
end

-- Free, ours by an earlier send of this call, or inherited: the hash still
-- waits for an end, and was last written by the claim (or by the enqueue) that
-- this entry descends from.
local open = {queued = true, delayed = true, running = true}
local now = c('HMGET', job, 'status', 'token', 'cancel_requested_at')
local status, owner = now[1], now[2]
if status and owner ~= token then
  local heir = owner and parent ~= '' and owner == parent
  if not open[status] or (owner and not heir) then return 1 end
end

-- A tombstone that is there by now is heeded here; one that comes later finds
-- this claim in P:run.
local cancelled = now[3] or c('ZSCORE', KEYS[5], ARGV[4])
if cancelled then
  c('HSET', job, 'status', status or 'queued', 'token', token)
  c('HSET', run, field, ARGV[4])
  move_mark()
  return 3
end

local words = {'status', 'running'}
for i = 7, #ARGV do words[#words + 1] = ARGV[i] end
words[#words + 1] = 'token'
words[#words + 1] = token
c('HSET', job, unpack(words))
c('HSET', run, field, ARGV[4])
move_mark()
if has('e') and owner ~= token then
  c('XADD', KEYS[4], 'MAXLEN', '~', ARGV[6], '*', 'type', 'state',
    'data', 'running')
end
return 0
