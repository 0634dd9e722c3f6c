#!lua flags=no-writes
-- Reads the dead list: a page of it, or looks for a job's entry in a piece of
-- it, so small that nobody is made to wait.
--
-- KEYS 1 dead
-- ARGV 1 from  2 count  3 job id or ''  4 bytes to look at; with an id: from is
--      how many of the oldest are left to look at (-1: all), count how many of
--      them this time
-- Answer: of a page: how many entries there are, then the lines about some of
--      them, from the first one on; of a look: how many are left to look at,
--      then the whole entry if it is there
local c = redis.call
local from, count, id = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local answer, bytes = {c('LLEN', KEYS[1])}, tonumber(ARGV[4])

local function line_of(entry) return entry:match('^[^\n]*') end

if id == '' then
  for at = from, from + count - 1 do
    local got = c('LRANGE', KEYS[1], at, at)
    if not got[1] or bytes <= 0 then break end
    answer[#answer + 1], bytes = line_of(got[1]), bytes - #got[1]
  end
  return answer
end
-- Counted from the end, as new ones come at the front between two looks; what
-- is taken out meanwhile brings seen ones back, and hides none.
local head = '{"job_id":"' .. id .. '",'
local left = from < 0 and answer[1] or math.min(from, answer[1])
while left > 0 and count > 0 and bytes > 0 do
  local entry = c('LINDEX', KEYS[1], -left)
  left, count, bytes = left - 1, count - 1, bytes - #entry
  if entry:sub(1, #head) == head then return {left, entry} end
end
return {left}
