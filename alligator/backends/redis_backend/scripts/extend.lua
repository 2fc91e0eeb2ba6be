-- Extend leases.
--
-- KEYS  the queue of each lease
-- ARGV  lease (µs); for each lease its id and fence
-- Returns the positions in KEYS of those that are already lost.

local till = clock() + ARGV[1]
local lost = {}

for place, queue in ipairs(KEYS) do
  local id, fence = ARGV[2 * place], ARGV[2 * place + 1]
  local key, known = find(queue, id, fence)
  if known == fence and call('ZREM', queue .. ':run', key) == 1 then
    call('ZADD', queue .. ':run', till, key)
  else
    lost[#lost + 1] = place
  end
end

return lost
