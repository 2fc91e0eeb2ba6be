-- Throw a dead task away.
--
-- KEYS  the queue
-- ARGV  id
-- Returns 0 if there is none.

local queue, id = KEYS[1], ARGV[1]

if call('ZREM', queue .. ':dead', id) == 0 then
  return 0
end
call('HDEL', queue .. ':job', id)
call('HDEL', queue .. ':try', id)
call('HDEL', queue .. ':why', id)
add(queue, 'dropped', 1)
return 1
