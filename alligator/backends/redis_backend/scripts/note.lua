-- Add figures to the sums, and take samples.
--
-- KEYS  the queues, first those to be sampled; then the marker of the report, if it has one
-- ARGV  how many to sample, µs between two samples, how many are kept, seconds to keep the marker (0:
--       there is none); for each queue how many figures, and for each figure its name and number
--
-- A report that is repeated because its reply was lost finds its marker and is not added again.

local to_sample, gap, kept = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local now = clock()
local place = math.floor(now / gap) % kept

-- The samples are a ring buffer: the time of a sample determines its position, and it replaces an old one.
local function sample(queue)
  local there = call('HGET', queue .. ':past', place)
  if there and now - (string.match(there, '^%d+') or 0) < gap then
    return
  end
  local ready, waiting = count_waiting(queue, now)
  local counts = call('HMGET', queue .. ':cnt', 'pushed', 'succeeded', 'failed', 'dropped')
  local words = {
    string.format('%.0f', now),
    ready,
    waiting - ready,
    call('ZCARD', queue .. ':run'),
    call('ZCARD', queue .. ':dead'),
  }
  for i = 1, 4 do
    words[#words + 1] = counts[i] or 0
  end
  call('HSET', queue .. ':past', place, table.concat(words, ' '))
end

local queues, is_new = #KEYS, true
if ARGV[4] ~= '0' then
  queues = queues - 1
  is_new = call('SET', KEYS[#KEYS], '', 'EX', ARGV[4], 'NX')
end

local at = 5
for k = 1, queues do
  local queue, count = KEYS[k], tonumber(ARGV[at])
  if is_new then
    for i = at + 1, at + 2 * count, 2 do
      call('HINCRBY', queue .. ':sum', ARGV[i], ARGV[i + 1])
    end
  end
  at = at + 1 + 2 * count
  if k <= to_sample then
    sample(queue)
  end
end
