-- List the scheduled tasks, the next first.
--
-- KEYS  the queue
-- ARGV  the maximum number
-- Returns for each its key, the time until it is due (µs), payload.

local queue = KEYS[1]
local now = clock()
local most = tonumber(ARGV[1])
local tasks, reply = {}, {}

for _, shift in ipairs({ HIGH, NORMAL, LOW }) do
  local _, upto = range_of(shift)
  for _, waiting in ipairs({ ':due', ':lined' }) do
    local found = call('ZRANGEBYSCORE', queue .. waiting, '(' .. whole(now - shift), upto,
      'WITHSCORES', 'LIMIT', 0, most)
    for i = 1, #found, 2 do
      tasks[#tasks + 1] = { found[i], found[i + 1] + shift - now }
    end
  end
end
table.sort(tasks, function(one, other)
  return one[2] < other[2]
end)
for i = 1, math.min(#tasks, most) do
  local key, due_in = unpack(tasks[i])
  reply[#reply + 1] = key
  reply[#reply + 1] = due_in
  reply[#reply + 1] = call('HGET', queue .. ':job', key) or ''
end
return reply
