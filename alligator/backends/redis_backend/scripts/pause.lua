-- Pause the queue, or resume it.
--
-- KEYS  the queue; the set of all queues
-- ARGV  for how long (µs; 0: resume, -1: without an end), the name of the queue

local queue, span = KEYS[1], tonumber(ARGV[1])
local now = clock()

if span == 0 then
  call('DEL', queue .. ':off')  -- first, so that it is possible without free memory
else
  call('SET', queue .. ':off', span < 0 and '-1' or whole(now + span))
end
call('SADD', KEYS[2], ARGV[2])
if next_due(queue) then
  -- A worker that sleeps has to know the new end.
  wake(queue)
end
