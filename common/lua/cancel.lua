#!lua flags=allow-oom
-- Asks for a job's end: leaves a tombstone and tells the workers. Where the job
-- waits look.lua finds it, and settle.lua takes it away.
--
-- KEYS 1 cx
-- ARGV 1 prefix  2 job id  3 tombstones at most  4 tenant whose it may be, or
--      '': anybody's  5 flags (k: keep a tombstone also of what nothing is
--      known of)
-- Answer: 0 it has ended, 1 it runs, 2 it waits, 3 nothing is known of it, 4 it
--      is another tenant's (nothing was done); then status, verdict, now ms;
--      of what waits also its token, its queue, its score in the delayed set,
--      each '' if not known
local c = redis.call
local P, id = ARGV[1], ARGV[2]
local job = P .. ':job:' .. id

local time = c('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local hash = c('HMGET', job, 'status', 'verdict', 'token', 'queue', 'due_at',
               'cancel_requested_at', 'tenant')
local status = hash[1]
if ARGV[4] ~= '' and hash[7] and hash[7] ~= ARGV[4] then
  return {4, '', '', now, '', '', ''}
end
local OPEN = {queued = true, delayed = true, running = true}
if status and not OPEN[status] then
  return {0, status, hash[2] or '', now, '', '', ''}
end

if status or ARGV[5]:find('k', 1, true) then
  c('ZADD', KEYS[1], string.format('%.0f', now), id)
  c('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[3]))
  c('PUBLISH', P .. ':control', id)
end
-- A tombstone is forgotten after a while; this is not.
if status and not hash[6] then
  c('HSET', job, 'cancel_requested_at', string.format('%.3f', now / 1000))
end
if status == 'running' then return {1, status, '', now, '', '', ''} end
return {status and 2 or 3, status or '', '', now, hash[3] or '', hash[4] or '',
        ((hash[5] or ''):gsub('%.', ''))}
