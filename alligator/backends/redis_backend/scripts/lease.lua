-- Reserve one ready or scheduled task by its id.
--
-- KEYS  the queue
-- ARGV  id, lease (µs)
-- Returns payload, fence; nothing if there is no such task.

local queue = KEYS[1]
local now = clock()
local key, score = find_waiting(queue, ARGV[1])
local payload = key and call('HGET', queue .. ':job', key)

if not payload then
  return
end
remove_waiting(queue, key, now)
count_lease(queue, limit_key_of(queue, key))
update_keys(queue, { key }, 'start')
call('ZADD', queue .. ':run', now + ARGV[2], key)
local fence = modern(call('HGET', queue .. ':try', key), whole(now))
local marks = marks_of(fence) >= 2 and 3 or 1
fence = fence_of(fence, whole(now), lost_of(fence), marks)
local shift = shift_of(score)
local due = score + shift
fence = fence .. (due > now and whole(due) or '') .. digit_of(shift)
call('HSET', queue .. ':try', key, fence)
return { payload, fence }
