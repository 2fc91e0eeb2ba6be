-- The beginning of the script that queues the tick of a schedule, once: `push` follows, then `tick`.
--
-- KEYS  schedules: a HASH as for schedules; then the keys of push
-- ARGV  name of the schedule, moment of the tick (s), for how long to remember a schedule that is not
--       known (µs); then the arguments of push
-- Returns 1 if the tick is queued now, 0 if it or a later one was queued before.

local schedules = table.remove(KEYS, 1)
local name = table.remove(ARGV, 1)
local moment, ttl = tonumber(table.remove(ARGV, 1)), tonumber(table.remove(ARGV, 1))

local last, _, seen, gone, about = read_schedule(call('HGET', schedules, name))
if not gone or gone <= clock() then  -- there is none any more
  last, seen, about = 0, clock(), ''
  gone = seen + ttl
end
if last >= moment then
  return 0
end

local function push()
