-- Return lines to the turns, few per call, because the limit of each key has changed.
--
-- KEYS  the queue
-- ARGV  how many were looked at before, the maximum number
-- Returns how many were looked at.

-- Lines that return move to the front, so the places of the others stay as they are.
local queue, offset, now = KEYS[1], tonumber(ARGV[1]), clock()
local found = call('ZRANGE', queue .. ':turns', offset, offset + ARGV[2] - 1)

for _, member in ipairs(found) do
  reopen(queue, string.sub(member, 2), now)
end
if #found > 0 then
  wake(queue)
end
return #found
