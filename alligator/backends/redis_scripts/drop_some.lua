-- Throw away ready and scheduled tasks, so few at a time that nobody has to wait.
--
-- KEYS  the queue
-- ARGV  how many at most
-- Returns how many there were.

local queue = KEYS[1]
local ids = call('ZRANGE', queue .. ':due', 0, ARGV[1] - 1)

if #ids > 0 then
  call('ZREM', queue .. ':due', unpack(ids))
  call('HDEL', queue .. ':job', unpack(ids))
  call('HDEL', queue .. ':try', unpack(ids))
  add(queue, 'dropped', #ids)
end
return #ids
