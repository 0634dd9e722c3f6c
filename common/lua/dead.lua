#!lua flags=no-writes
-- Reads the dead list: a page of it, or one entry.
--
-- KEYS 1 dead
-- ARGV 1 from  2 count  3 job id or '': the newest entry of that job, whole
-- Answer: how many entries there are; then the entries: of a page the lines
--      about them, of one job its whole entry
local c = redis.call
local from, count, id = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local answer = {c('LLEN', KEYS[1])}

local function line_of(entry) return entry:match('^[^\n]*') end

if id == '' then
  for at = from, from + count - 1 do
    local got = c('LRANGE', KEYS[1], at, at)
    if not got[1] then break end
    answer[#answer + 1] = line_of(got[1])
  end
  return answer
end
local head = '{"job_id":"' .. id .. '",'
for at = 0, answer[1] - 1, 20 do
  for _, entry in ipairs(c('LRANGE', KEYS[1], at, at + 19)) do
    if entry:sub(1, #head) == head then
      answer[2] = entry
      return answer
    end
  end
end
return answer
