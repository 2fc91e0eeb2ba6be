-- List the dead letters of the queue, the latest first.
--
-- KEYS  the queue
-- ARGV  the maximum number
-- Returns for each its key, when it died (µs), payload, why.

local queue = KEYS[1]
local found = call('ZREVRANGE', queue .. ':dead', 0, ARGV[1] - 1, 'WITHSCORES')
local reply = {}

for i = 1, #found, 2 do
  local key = found[i]
  reply[#reply + 1] = key
  reply[#reply + 1] = found[i + 1]
  reply[#reply + 1] = call('HGET', queue .. ':job', key) or ''
  reply[#reply + 1] = call('HGET', queue .. ':why', key) or '["",""]'
end
return reply
