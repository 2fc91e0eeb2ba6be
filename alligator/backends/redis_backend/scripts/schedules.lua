-- List the schedules.
--
-- KEYS  as for announce
-- Returns for each its name, its last tick and the last that was queued (s), how long ago it was
-- announced (µs), its definition.

local now = clock()
local reply = {}

local cursor = '0'
repeat
  local page = call('HSCAN', KEYS[1], cursor, 'COUNT', 1000)
  cursor = page[1]
  for i = 1, #page[2], 2 do
    local last, ran, seen, gone, about = read_schedule(page[2][i + 1])
    if last and gone > now then
      for _, value in ipairs({ page[2][i], last, ran, now - seen, about }) do
        reply[#reply + 1] = value
      end
    end
  end
until cursor == '0'
return reply
