-- Make the latest dead task of an id ready again.
--
-- KEYS  the queue
-- ARGV  id
-- Returns 0 if there is none.

local queue = KEYS[1]
local key = find_dead(queue, ARGV[1])

if not key then
  return 0
end
local now = clock()
call('ZREM', queue .. ':dead', key)
call('HDEL', queue .. ':why', key)
-- Reset the losses, but keep the generation: a late ack still applies to this task.
local fence = modern(call('HGET', queue .. ':try', key), whole(now))
local shift, digit = priority_in(fence)
call('HSET', queue .. ':try', key, fence_of(fence, whole(now), 0, 0) .. digit)
add_waiting(queue, key, whole(now - shift), now)
wake(queue)
return 1
