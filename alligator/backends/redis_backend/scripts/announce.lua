-- Record that a worker keeps schedules, and forget those whose time has passed.
--
-- KEYS  schedules: a HASH name -> record, see records
-- ARGV  the time of the worker (s); for each schedule its name, definition, how long to keep it (µs)
-- Returns for each the moment of its last tick (s).

local schedules = KEYS[1]
local now = clock()
local reply = {}

local known = all_schedules(schedules)
for i = 1, #known, 2 do
  local _, _, _, gone = read_schedule(known[i + 1])
  if not gone or gone <= now then
    call('HDEL', schedules, known[i])
  end
end

for i = 2, #ARGV, 3 do
  local last, ran = read_schedule(call('HGET', schedules, ARGV[i]))
  last = last or tonumber(ARGV[1])
  local record = written_schedule(last, ran or 0, now, now + ARGV[i + 2], ARGV[i + 1])
  call('HSET', schedules, ARGV[i], record)
  reply[#reply + 1] = last
end
return reply
