-- Drop ready and scheduled tasks, few per call, so that other clients do not have to wait.
--
-- KEYS  the queue
-- ARGV  the maximum number
-- Returns how many were dropped.

local queue = KEYS[1]
local most, now = tonumber(ARGV[1]), clock()
local ids = call('ZRANGE', queue .. ':due', 0, most - 1)

if #ids > 0 then
  call('ZREM', queue .. ':due', unpack(ids))
end
if #ids < most and has_lines(queue) then
  for _, key in ipairs(call('ZRANGE', queue .. ':lined', 0, most - #ids - 1)) do
    remove_waiting(queue, key, now)
    ids[#ids + 1] = key
  end
end
if #ids > 0 then
  call('HDEL', queue .. ':job', unpack(ids))
  call('HDEL', queue .. ':try', unpack(ids))
  drop_limit_keys(queue, ids)
  for _, key in ipairs(ids) do
    update_keys(queue, { key }, 'gone')
    forget_alias(queue, key)
  end
  add(queue, 'dropped', #ids)
  settle(queue, ids, 1, now)
end
return #ids
