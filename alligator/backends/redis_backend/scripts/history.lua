-- List the samples of the queue.
--
-- KEYS  the queue
-- ARGV  the maximum age of a sample (µs)
-- Returns for each its age (µs) and its words as they were written, in no order.

local now = clock()
local reply = {}

for _, words in ipairs(call('HVALS', KEYS[1] .. ':past')) do
  local age = now - (string.match(words, '^%d+') or 0)
  if age >= 0 and age < tonumber(ARGV[1]) then
    reply[#reply + 1] = age
    reply[#reply + 1] = words
  end
end
return reply
