#!lua flags=allow-oom
-- Gives back a chunk of what a fenced incarnation held. Repeat until done.
--
-- KEYS 1 inf
-- ARGV 1 prefix  2 wid  3 chunk  4 how long to remember it, s
-- Answer: entries moved, 1 if nothing is left
local c = redis.call
local P, inf, wid, chunk = ARGV[1], KEYS[1], ARGV[2], tonumber(ARGV[3])
local run = P .. ':run:' .. wid

if c('HEXISTS', inf, '_') == 1 then
  return redis.error_reply('ERR ' .. wid .. ' is not fenced')
end

-- The envelope (common/envelope.h), strictly: what does not match is raw text.
local MOST = {c = 2147483647, d = 2147483647, a = 2147483647,
              t = 9e18, u = 9e18}
local SHAPE = {i = '^[%w._:-]+$', p = '^[%w._:@/-]+$'}
local LENGTH = {i = 64, p = 128}
local function split(entry)
  if entry:byte(1) ~= 33 then return {}, entry end
  local bar = entry:sub(1, 512):find('|', 1, true)
  if not bar then return {}, entry end
  local e = {}
  for item in (entry:sub(2, bar - 1) .. ';'):gmatch('([^;]*);') do
    local key, value = item:sub(1, 1), item:sub(2)
    local good
    if MOST[key] then
      good = value:find('^%d+$') and tonumber(value) <= MOST[key]
    elseif SHAPE[key] then
      good = value:find(SHAPE[key]) and #value <= LENGTH[key]
    end
    if not good or e[key] then return {}, entry end
    e[key] = value
  end
  return e, entry:sub(bar + 1)
end

local function join(e, body)
  local items = {}
  for key in ('cdatipu'):gmatch('.') do
    if e[key] then items[#items + 1] = key .. e[key] end
  end
  return '!' .. table.concat(items, ';') .. '|' .. body
end

local guilty = c('HGET', run, '!')
local function suspicion(field, had)
  if guilty then return field == guilty and had + 1 or had end
  return had == 0 and 1 or had
end

local function given_back(number, field, entry)
  local token = wid .. '.' .. number
  local e, body = split(entry)
  local id = c('HGET', run, field)
  local suspicions = suspicion(field, tonumber(e.c) or 0)
  if suspicions > 0 then e.c = string.format('%.0f', suspicions) end
  e.d = string.format('%.0f', (tonumber(e.d) or 0) + 1)
  e.i = e.i or id or token
  -- Only a started claim has taken over the hash; else it is its ancestor's.
  if id or not e.p then e.p = token end
  if id and c('HGET', P .. ':job:' .. id, 'token') == token then
    c('HSET', P .. ':job:' .. id, 'status', 'queued')
    if c('EXISTS', P .. ':events:' .. id) == 1 then
      c('XADD', P .. ':events:' .. id, '*', 'type', 'state', 'data', 'queued')
    end
  end
  return join(e, body)
end

-- What a blocked move had taken was never claimed: it goes back as it was, and
-- before the claims, which are older and end up further right.
local room = chunk
local names = c('HGET', P .. ':wkq', wid) or ''
for queue in names:gmatch('[^,]+') do
  local private = P .. ':p:' .. wid .. ':' .. queue
  while room > 0
    and c('LMOVE', private, P .. ':queue:' .. queue, 'LEFT', 'RIGHT') do
    room = room - 1
  end
end
local rescued = chunk - room
if rescued > 0 then c('HINCRBY', P .. ':stats', 'rescued', rescued) end

-- Newest first, so that the oldest ends up at the very right: first in line.
local claims = {}
for _, field in ipairs(c('HKEYS', inf)) do
  local number, queue = field:match('^(%d+)@(.*)$')
  if number then
    claims[#claims + 1] = {tonumber(number), field, queue, number}
  end
end
table.sort(claims, function(a, b) return a[1] > b[1] end)
local moved = math.min(room, #claims)
for i = 1, moved do
  local field, queue = claims[i][2], claims[i][3]
  local entry = c('HGET', inf, field)
  c('RPUSH', P .. ':queue:' .. queue, given_back(claims[i][4], field, entry))
  c('HDEL', inf, field)
  c('HDEL', run, field)
end
if moved > 0 then c('HINCRBY', P .. ':stats', 'recovered', moved) end

local done = moved == #claims and room > 0
if done then
  c('DEL', run, P .. ':worker:' .. wid)
  c('EXPIRE', inf, ARGV[4]) -- the record of its last exchange
  c('ZREM', P .. ':wk', wid)
end
return {moved + rescued, done and 1 or 0}
