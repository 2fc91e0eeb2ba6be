-- Take one task off the queue, ready or scheduled.
--
-- KEYS  the queue
-- ARGV  id
-- Returns its payload; nothing if there is no such task.

local queue, id = KEYS[1], ARGV[1]

if call('ZREM', queue .. ':due', id) == 0 then
  return
end
local payload = call('HGET', queue .. ':job', id)
call('HDEL', queue .. ':job', id)
call('HDEL', queue .. ':try', id)
add(queue, 'canceled', 1)
return payload
