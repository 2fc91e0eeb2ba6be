-- Remove one ready or scheduled task from the queue.
--
-- KEYS  the queue
-- ARGV  id
-- Returns its payload; nothing if there is no such task.

local queue = KEYS[1]
local now = clock()
local key = find_waiting(queue, ARGV[1])

if not key then
  return
end
remove_waiting(queue, key, now)
local payload = call('HGET', queue .. ':job', key)
update_keys(queue, { key }, 'gone')
forget(queue, key)
add(queue, 'canceled', 1)
settle(queue, { key }, 1, now)
return payload
