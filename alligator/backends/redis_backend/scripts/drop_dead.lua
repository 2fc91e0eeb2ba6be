-- Drop the latest dead task of an id.
--
-- KEYS  the queue
-- ARGV  id
-- Returns 0 if there is none.

local queue = KEYS[1]
local key = find_dead(queue, ARGV[1])

if not key then
  return 0
end
call('ZREM', queue .. ':dead', key)
forget(queue, key)
add(queue, 'dropped', 1)
return 1
