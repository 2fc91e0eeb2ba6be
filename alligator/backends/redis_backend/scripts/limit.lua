-- Give the queue a limit in place of the one that it has, or remove it.
--
-- KEYS  the queue; the set of all queues
-- ARGV  its limit as :lim has it; '' for none; the name of the queue

local queue, limit = KEYS[1], ARGV[1]

-- First what removes something, so that it is possible without free memory.
if limit == '' then
  call('DEL', queue .. ':lim')
end
if limit == '' or string.match(limit, '^%d+ 0 ') then
  call('DEL', queue .. ':begun')
end
if limit ~= '' then
  call('SET', queue .. ':lim', limit)
end
call('SADD', KEYS[2], ARGV[2])
if next_due(queue) then
  -- A worker that sleeps has to know the new limit.
  wake(queue)
end
