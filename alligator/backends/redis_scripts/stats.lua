-- Measure the queue.
--
-- KEYS  the queue
-- ARGV  counters
-- Returns ready, waiting, leased, dead, for how long the oldest is ready (µs), then the counters.

local queue = KEYS[1]
local now = clock()

return {
  call('ZCOUNT', queue .. ':due', '-inf', now),
  call('ZCARD', queue .. ':due'),
  call('ZCARD', queue .. ':run'),
  call('ZCARD', queue .. ':dead'),
  math.max(0, now - (lowest(queue .. ':due') or now)),
  unpack(call('HMGET', queue .. ':cnt', unpack(ARGV))),
}
