-- The part that the scripts of schedules share: how their records are written.
--
-- A record is a text: the moment of the last tick, and of the last that was queued (s), when the
-- schedule was announced last and when to forget it (µs), and its definition as JSON.

local function read_schedule(text)
  local last, ran, seen, gone, about = string.match(text or '', '^(%d+) (%d+) (%d+) (%d+) (.*)$')
  return tonumber(last), tonumber(ran), tonumber(seen), tonumber(gone), about
end

local function written_schedule(last, ran, seen, gone, about)
  return string.format('%.0f %.0f %.0f %.0f %s', last, ran, seen, gone, about)
end

-- Return the names and the records of all schedules, in turn.
local function all_schedules(schedules)
  local found, cursor = {}, '0'
  repeat
    local page = call('HSCAN', schedules, cursor, 'COUNT', 1000)
    cursor = page[1]
    for _, each in ipairs(page[2]) do
      found[#found + 1] = each
    end
  until cursor == '0'
  return found
end
