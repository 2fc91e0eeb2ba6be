-- Put tasks on their queues: all or none, and once for each commit.
--
-- KEYS  the marker of the commit, a marker to forget (or the same again), the set of all queues,
--       then the queues
-- ARGV  seconds to keep the marker; until when anybody waits for the reply (µs); for each queue its
--       name, how many tasks, and of each task id, payload, delay (µs)
-- Returns 0 if the commit was aborted before it arrived, -1 if it comes too late, else 1.

local marker = KEYS[1]
local now = clock()

if now > tonumber(ARGV[2]) then
  -- Its client has been told that it failed, for it lay in a network or a server that hung.
  return -1
end

if not call('SET', marker, 'done', 'NX', 'EX', ARGV[1]) then
  return call('GET', marker) == 'aborted' and 0 or 1
end
if KEYS[2] ~= marker then
  call('DEL', KEYS[2])
end

local added = {}
local known = 0
local at = 3

for k = 4, #KEYS do
  local queue = KEYS[k]
  local name, count = ARGV[at], tonumber(ARGV[at + 1])
  at = at + 2

  -- Those ready at once get times of their own, so that they keep their order: the last
  -- microseconds up to now, but none before what was pushed earlier.
  local start = now - count
  if count > 1 then
    local newest = call('ZREVRANGEBYSCORE', queue .. ':due', now, '-inf', 'WITHSCORES', 'LIMIT', 0, 1)
    start = math.max(start, tonumber(newest[2]) or 0)
  end

  local ours, scores, first = {}, {}, math.huge
  for i = 1, count do
    local id, payload, delay = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
    at = at + 3
    if call('HSETNX', queue .. ':job', id, payload) == 1 then
      local due = delay > 0 and now + delay or start + i
      scores[#scores + 1] = due
      scores[#scores + 1] = id
      ours[id] = true
      first = math.min(first, due)
    else
      known = known + 1
    end
  end
  added[queue] = ours

  if #scores > 0 then
    call('ZADD', queue .. ':due', unpack(scores))
    if call('HINCRBY', queue .. ':cnt', 'pushed', #scores / 2) == #scores / 2 then
      call('SADD', KEYS[3], name)
    end
    announce(queue, first, now)
  end
end

if known > 0 then
  -- An abort must leave alone what others had put there.
  call('SET', marker, cjson.encode(added), 'EX', ARGV[1])
end
return 1
