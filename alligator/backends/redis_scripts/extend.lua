-- Let leases end later.
--
-- KEYS  for each lease, its queue
-- ARGV  lease (µs); for each lease id, fence
-- Returns the places in KEYS of those that are lost already.

local till = clock() + ARGV[1]
local lost = {}

for place, queue in ipairs(KEYS) do
  local id, fence = ARGV[2 * place], ARGV[2 * place + 1]
  if (call('HGET', queue .. ':try', id) or '0') == fence and call('ZREM', queue .. ':run', id) == 1 then
    call('ZADD', queue .. ':run', till, id)
  else
    lost[#lost + 1] = place
  end
end

return lost
