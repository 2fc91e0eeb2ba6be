-- List the tasks whose time has not come, the next first.
--
-- KEYS  the queue
-- ARGV  how many at most
-- Returns of each id, in how long it is due (µs), payload.

local queue = KEYS[1]
local now = clock()
local found = call('ZRANGEBYSCORE', queue .. ':due', '(' .. string.format('%.0f', now), '+inf',
  'WITHSCORES', 'LIMIT', 0, ARGV[1])
local reply = {}

for i = 1, #found, 2 do
  local id = found[i]
  reply[#reply + 1] = id
  reply[#reply + 1] = found[i + 1] - now
  reply[#reply + 1] = call('HGET', queue .. ':job', id) or ''
end
return reply
