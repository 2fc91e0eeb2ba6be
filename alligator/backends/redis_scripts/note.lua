-- Add up figures, and take samples.
--
-- KEYS  the queues, first those to be sampled
-- ARGV  how many to sample, µs between two samples, how many are kept; of each queue how many
--       figures, and of each figure name, number

local to_sample, gap, kept = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local now = clock()
local place = math.floor(now / gap) % kept

-- The samples are a ring: each has its place for its time, and takes that of one long ago.
local function sample(queue)
  local there = call('HGET', queue .. ':past', place)
  if there and now - string.match(there, '^%d+') < gap then
    return
  end
  local ready = call('ZCOUNT', queue .. ':due', '-inf', now)
  local counts = call('HMGET', queue .. ':cnt', 'pushed', 'succeeded', 'failed')
  local words = {
    string.format('%.0f', now),
    ready,
    call('ZCARD', queue .. ':due') - ready,
    call('ZCARD', queue .. ':run'),
    call('ZCARD', queue .. ':dead'),
  }
  for i = 1, 3 do
    words[#words + 1] = counts[i] or 0
  end
  call('HSET', queue .. ':past', place, table.concat(words, ' '))
end

local at = 4
for k, queue in ipairs(KEYS) do
  local count = tonumber(ARGV[at])
  for i = at + 1, at + 2 * count, 2 do
    call('HINCRBY', queue .. ':sum', ARGV[i], ARGV[i + 1])
  end
  at = at + 1 + 2 * count
  if k <= to_sample then
    sample(queue)
  end
end
