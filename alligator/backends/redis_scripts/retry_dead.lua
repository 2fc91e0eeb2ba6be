-- Make a dead task ready again.
--
-- KEYS  the queue
-- ARGV  id
-- Returns 0 if there is none.

local queue, id = KEYS[1], ARGV[1]

if call('ZREM', queue .. ':dead', id) == 0 then
  return 0
end
call('HDEL', queue .. ':why', id)
-- The losses are forgotten. The count of deliveries is not: it keeps old leases out.
local deliveries = (call('HGET', queue .. ':try', id) or 0) % LOST
call('HSET', queue .. ':try', id, deliveries + 1)
call('ZADD', queue .. ':due', clock(), id)
wake(queue)
return 1
