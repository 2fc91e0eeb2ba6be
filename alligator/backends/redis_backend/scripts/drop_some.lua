-- Drop ready and scheduled tasks, few per call, so that other clients do not have to wait.
--
-- KEYS  the queue
-- ARGV  the maximum number
-- Returns how many were dropped.

local queue = KEYS[1]
local ids = call('ZRANGE', queue .. ':due', 0, ARGV[1] - 1)

if #ids > 0 then
  call('ZREM', queue .. ':due', unpack(ids))
  call('HDEL', queue .. ':job', unpack(ids))
  call('HDEL', queue .. ':try', unpack(ids))
  for _, key in ipairs(ids) do
    update_keys(queue, { key }, 'gone')
    forget_alias(queue, key)
  end
  add(queue, 'dropped', #ids)
  settle(queue, ids, 1, clock())
end
return #ids
