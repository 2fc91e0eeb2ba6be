-- List the dead of the queue, the latest first.
--
-- KEYS  the queue
-- ARGV  how many at most
-- Returns of each id, when it died (µs), payload, why.

local queue = KEYS[1]
local found = call('ZREVRANGE', queue .. ':dead', 0, ARGV[1] - 1, 'WITHSCORES')
local reply = {}

for i = 1, #found, 2 do
  local id = found[i]
  reply[#reply + 1] = id
  reply[#reply + 1] = found[i + 1]
  reply[#reply + 1] = call('HGET', queue .. ':job', id) or ''
  reply[#reply + 1] = call('HGET', queue .. ':why', id) or '["",""]'
end
return reply
