-- Cancel a task: remove the one that waits, or else end the lease of the one that a worker has.
--
-- KEYS  the queue, the canceled leases
-- ARGV  id, for how long to remember a canceled lease (µs)
-- Returns its payload, and 1 if it was leased; nothing if there is no such task.
--
-- The canceled leases are a ZSET: the key of the queue, the id, the fence -> when it was canceled (µs).

local FORGET_AT_ONCE = 100
local queue, canceled = KEYS[1], KEYS[2]
local now = clock()
local key = find_waiting(queue, ARGV[1])
local waits = key ~= nil

if not key then
  for _, each in ipairs(keys_of(queue, ARGV[1])) do
    key = key or (call('ZSCORE', queue .. ':run', each) and each)
  end
end
if not key then
  return
end
if waits then
  remove_waiting(queue, key, now)
else
  call('ZREM', queue .. ':run', key)
  end_lease(queue, key, now)
end
local payload = call('HGET', queue .. ':job', key)
local fence = call('HGET', queue .. ':try', key)
update_keys(queue, { key }, 'gone')
forget(queue, key)
add(queue, 'canceled', 1)
settle(queue, { key }, 1, now)
if not waits then
  local old = call('ZRANGEBYSCORE', canceled, '-inf', now - ARGV[2], 'LIMIT', 0, FORGET_AT_ONCE)
  if #old > 0 then
    call('ZREM', canceled, unpack(old))
  end
  call('ZADD', canceled, now, queue .. ALIAS .. ARGV[1] .. ALIAS .. fence)
  local due = next_due(queue)
  if due and due <= now then
    wake(queue)  -- the queue or a key may have a limit, and a place of it is free now
  end
end
return payload and { payload, waits and 0 or 1 }
