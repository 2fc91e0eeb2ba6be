-- Give a key of a queue a limit in place of the one that it has, or remove it.
--
-- KEYS  the queue; the set of all queues
-- ARGV  limit key, or * for each; its limit as :lim has it, '' for none; the name of the queue

local SOME = 1000
local queue, limit_key, limit = KEYS[1], ARGV[1], ARGV[2]

-- Count the leases of limit keys, in place of what was counted: nothing while no key had a limit, or too much if
-- an older worker has ended leases of tasks with limit keys. A line of each key may be put off.
local function count_leases()
  call('DEL', queue .. ':busy')
  local leased = call('ZRANGE', queue .. ':run', 0, -1)
  for first = 1, #leased, SOME do
    local last = math.min(#leased, first + SOME - 1)
    for _, text in ipairs(call('HMGET', queue .. ':try', unpack(leased, first, last))) do
      local _, busy = read_try(text)
      if busy then
        call('HINCRBY', queue .. ':busy', busy, -1)
      end
    end
  end
end

if limit == '' then
  call('HDEL', queue .. ':klim', limit_key)
  if call('EXISTS', queue .. ':klim') == 0 then
    call('DEL', queue .. ':busy')
  end
else
  if limit_key == '*' or call('EXISTS', queue .. ':klim') == 0 then
    count_leases()
  end
  call('HSET', queue .. ':klim', limit_key, limit)
end
call('SADD', KEYS[2], ARGV[3])
if limit_key ~= '*' then
  reopen(queue, limit_key, clock())
end
if next_due(queue) then
  wake(queue)
end
