-- List the workers that are known to be alive.
--
-- KEYS  as for beat
-- Returns for each the time since its last heartbeat (µs), JSON.

local now = clock()
local reply = {}

for _, name in ipairs(call('ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%.0f', now), '+inf')) do
  local seen, json = string.match(call('HGET', KEYS[2], name) or '', '^(%d+) (.*)$')
  if seen then
    reply[#reply + 1] = now - seen
    reply[#reply + 1] = json
  end
end
return reply
