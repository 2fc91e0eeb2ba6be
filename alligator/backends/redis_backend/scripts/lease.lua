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
update_keys(queue, { key }, 'start')
call('ZADD', queue .. ':run', now + ARGV[2], key)
local known, limit_key = read_try(call('HGET', queue .. ':try', key))
if limit_key and has_key_limits(queue) then
  local count = tonumber(call('HGET', queue .. ':busy', limit_key) or 0)
  call('HINCRBY', queue .. ':busy', limit_key, count < 0 and -1 or 1)
end
local fence = modern(known, whole(now))
local marks = marks_of(fence) >= 2 and 3 or 1
fence = fence_of(fence, whole(now), lost_of(fence), marks)
local shift = shift_of(score)
local due = score + shift
fence = fence .. (due > now and whole(due) or '') .. digit_of(shift)
call('HSET', queue .. ':try', key, written_try(fence, limit_key))
return { payload, fence }
