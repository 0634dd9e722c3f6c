#!lua
-- Puts a dead job back into its queue with a fresh start: out of the dead list
-- and into the queue in one step. Refused by a full Redis.
--
-- KEYS 1 dead  2 queue  3 job hash  4 stats  5 cx  6 events  7 batch
-- ARGV 1 dead entry  2 job id  3 body  4 nonce  5 queue name  6 flags (b: it is
--      counted in that batch, e: events)  7 tenant or ''
-- Answer: 0 done, 1 the entry is gone, 2 the id is another job's by now
local c = redis.call
local job, id = KEYS[3], ARGV[2]
local function has(letter) return ARGV[6]:find(letter, 1, true) end

-- Only what ended the way that leads to the dead list may begin anew, and only
-- in place of its tenant's job.
local now = c('HMGET', job, 'status', 'verdict', 'tenant')
if now[3] and now[3] ~= ARGV[7] then return 2 end
if now[1] and now[1] ~= 'dead' and now[2] ~= 'rejected' then return 2 end
if c('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 1 end

local time = c('TIME')
local ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local token = 'e.' .. ARGV[4]
c('DEL', job, KEYS[6])
c('HSET', job, 'status', 'queued', 'enqueued_at',
  string.format('%.3f', ms / 1000), 'token', token, 'nonce', ARGV[4], 'queue',
  ARGV[5])
-- Who may see it: nobody else writes that.
if ARGV[7] ~= '' then c('HSET', job, 'tenant', ARGV[7]) end
c('ZREM', KEYS[5], id)
c('LPUSH', KEYS[2],
  string.format('!t%.0f;i%s;p%s|', ms, id, token) .. ARGV[3])
if has('e') then c('XADD', KEYS[6], '*', 'type', 'state', 'data', 'queued') end
-- It will be counted again when it ends again.
if has('b') and (tonumber(c('HGET', KEYS[7], 'done')) or 0) > 0 then
  c('HINCRBY', KEYS[7], 'done', -1)
  c('HINCRBY', KEYS[7], 'failed', -1)
  c('HSET', KEYS[7], 'status', 'running')
end
c('HINCRBY', KEYS[4], 'accepted', 1)
c('HINCRBY', KEYS[4], 'revived', 1)
return 0
