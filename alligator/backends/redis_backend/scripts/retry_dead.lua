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
local known, limit_key = read_try(call('HGET', queue .. ':try', key))
local fence = modern(known, whole(now))
local shift, digit = priority_in(fence)
fence = fence_of(fence, whole(now), 0, 0) .. digit
call('HSET', queue .. ':try', key, written_try(fence, limit_key))
add_waiting(queue, key, whole(now - shift), now, limit_key)
wake(queue)
return 1
