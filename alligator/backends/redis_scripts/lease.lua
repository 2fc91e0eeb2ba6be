-- Reserve one task by its id, ready or scheduled.
--
-- KEYS  the queue
-- ARGV  id, lease (µs)
-- Returns payload, fence; nothing if there is no such task.

local queue, id = KEYS[1], ARGV[1]
local payload = call('HGET', queue .. ':job', id)

if not payload or call('ZREM', queue .. ':due', id) == 0 then
  return
end
call('ZADD', queue .. ':run', clock() + ARGV[2], id)
return { payload, call('HGET', queue .. ':try', id) or 0 }
