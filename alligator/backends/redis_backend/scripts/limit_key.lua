-- Give a key of a queue a limit in place of the one that it has, or remove it.
--
-- KEYS  the queue; the set of all queues
-- ARGV  limit key, or * for each; its limit as :lim has it, '' for none; the name of the queue

local queue, limit_key, limit = KEYS[1], ARGV[1], ARGV[2]

if limit == '' then
  call('HDEL', queue .. ':klim', limit_key)
else
  call('HSET', queue .. ':klim', limit_key, limit)
end
call('SADD', KEYS[2], ARGV[3])
if limit_key ~= '*' then
  reopen(queue, limit_key, clock())
end
if next_due(queue) then
  wake(queue)
end
