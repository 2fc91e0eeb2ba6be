-- List the schedules.
--
-- KEYS  as for announce
-- Returns for each its name, its last tick and the last that was queued (s), how long ago it was
-- announced (µs), its definition.

local now = clock()
local reply = {}

local known = all_schedules(KEYS[1])
for i = 1, #known, 2 do
  local last, ran, seen, gone, about = read_schedule(known[i + 1])
  if last and gone > now then
    for _, value in ipairs({ known[i], last, ran, now - seen, about }) do
      reply[#reply + 1] = value
    end
  end
end
return reply
