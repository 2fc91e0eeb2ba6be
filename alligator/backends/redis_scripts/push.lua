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
  local last = at + 1 + 3 * count

  local ids = {}
  for i = 1, count do
    ids[i] = ARGV[at + 3 * i - 1]
  end
  local there = call('HMGET', queue .. ':job', unpack(ids))

  -- Those ready at once get times of their own, so that they keep their order: the microseconds
  -- from now on. They are over when this script is, which needs more than one for each task.
  local ours, payloads, scores, new, first = {}, {}, {}, 0, math.huge
  for i, id in ipairs(ids) do
    if there[i] or ours[id] then
      known = known + 1
    else
      local place = at + 3 * i - 1
      local delay = ARGV[place + 2]
      local due = delay == '0' and now + i or now + tonumber(delay)
      ours[id] = true
      new = new + 1
      payloads[2 * new - 1], payloads[2 * new] = id, ARGV[place + 1]
      scores[2 * new - 1], scores[2 * new] = whole(due), id
      if due < first then
        first = due
      end
    end
  end
  at = last + 1
  added[queue] = ours

  if new > 0 then
    call('HSET', queue .. ':job', unpack(payloads))
    call('ZADD', queue .. ':due', unpack(scores))
    if call('HINCRBY', queue .. ':cnt', 'pushed', new) == new then
      call('SADD', KEYS[3], name)
    end
    announce(queue, first, now + count)
  end
end

if known > 0 then
  -- An abort must leave alone what others had put there.
  call('SET', marker, cjson.encode(added), 'EX', ARGV[1])
end
return 1
