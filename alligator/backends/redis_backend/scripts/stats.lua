-- Return the numbers of queues.
--
-- KEYS  the queues
-- ARGV  the names of the counters
-- Returns for each queue ready, waiting, leased, dead, the age of the oldest ready task (µs), for how long
--       it is still paused (µs; -1: without an end), its limit as :lim has it ('' for none), 1 if that is
--       reached, the counters.

local now = clock()
local paused = pauses_of(KEYS, #KEYS, now)
local reply = {}

for k, queue in ipairs(KEYS) do
  local limit = limit_of(queue)
  local ready, waiting, first = count_waiting(queue, now)
  reply[k] = {
    ready,
    waiting,
    call('ZCARD', queue .. ':run'),
    call('ZCARD', queue .. ':dead'),
    math.max(0, now - (first or now)),
    paused[k] and (paused[k] == math.huge and -1 or paused[k] - now) or 0,
    limit and call('GET', queue .. ':lim') or '',
    limit and limited_until(queue, limit, now) and 1 or 0,
    unpack(call('HMGET', queue .. ':cnt', unpack(ARGV))),
  }
end
return reply
