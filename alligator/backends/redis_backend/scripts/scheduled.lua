-- List the scheduled tasks, the next first.
--
-- KEYS  the queue
-- ARGV  the maximum number
-- Returns for each its key, the time until it is due (µs), payload.

local queue = KEYS[1]
local now = clock()
local found = call('ZRANGEBYSCORE', queue .. ':due', '(' .. string.format('%.0f', now), '+inf',
  'WITHSCORES', 'LIMIT', 0, ARGV[1])
local reply = {}

for i = 1, #found, 2 do
  local key = found[i]
  reply[#reply + 1] = key
  reply[#reply + 1] = found[i + 1] - now
  reply[#reply + 1] = call('HGET', queue .. ':job', key) or ''
end
return reply
