-- The part that all scripts share; it precedes each of them.
--
-- The key of a queue is {namespace}:QUEUE. Its data has keys that begin with it:
--
--   :due   ZSET  key -> when it is, or was, ready (µs), shifted by its priority     ready or scheduled
--   :run   ZSET  key -> when its lease ends (µs)           leased
--   :dead  ZSET  key -> when it died (µs)                  dead
--   :job   HASH  key -> payload, in every state of the task
--   :try   HASH  key -> fence, absent until the task is leased for the first time; '' is no key
--   :why   HASH  key -> JSON of [reason, traceback], of the dead
--   :alt   HASH  id -> generations of older tasks with that id, if there are any
--   :cnt   HASH  counter -> number
--   :sum   HASH  figure -> number; the queue with the empty name has those of no queue
--   :past  HASH  place in a ring -> when (µs), ready, scheduled, leased, dead, pushed, succeeded, failed,
--                dropped
--   :off   when the queue is resumed (µs; -1: without an end); absent if it was never paused
--   :lim   its limit: how many at once, how many starts (0: any number), within how long (µs); absent if it
--          has none
--   :begun ZSET  when (µs) -> the same: when its last tasks began, as many as the limit lets begin
--   :own, :uniq, :cool  the unique keys: see unique.lua
--   :then  HASH  key -> the key of the batch that counts the task until it is settled: see batches.lua
--   :key, :lined, :line, :turns, :turn, :busy, :klim, :fade  tasks with limit keys: see lines.lua
--   :wake  LIST  of at most one token, which ends the wait of the worker that takes it
--
-- Besides the queues, there are the markers COMMIT:commit and REPORT:report of recent calls, the
-- batches ID:batch of commits with follow-ups, and the leases that were canceled: see cancel.lua.
--
-- A task is in exactly one of the three sorted sets; with a limit key, :lined takes the place of :due. Its
-- key is its id. If a newer task has the same id, the key of the older one, which is leased or dead, becomes
-- its id, ALIAS and its generation.
--
-- A fence consists of digits: 16 of the generation, which is when the task was first leased (µs). The
-- following digits are present only if they are needed: 16 of when it was last leased, 3 of how often it
-- was lost, 1 of marks (1: this lease is the only one of its step; 2: a lease of it was lost), and for a
-- scheduled task that was leased by its id, 16 of when it is due. The last digit is a 1 or a 2 more if
-- its priority is high or low. A fence with fewer digits is of an older Alligator: LOST for each lost
-- worker, plus a smaller number for its deliveries.
--
-- The scores of :due are shifted so that each priority is a range of its own: the normal ones are not
-- negative, and an older Alligator has no others. Doubles hold all of them exactly. If the lowest score
-- is not negative, all priorities are normal, and the scripts do nothing more than that comparison.
--
-- Every script except push removes something before it adds anything. A server that is out of memory
-- rejects only scripts that begin by adding: no task can be pushed, but workers continue.

local call = redis.call

local ALIAS = '\031'
local LOST = 4294967296

local function clock()
  local time = call('TIME')
  return time[1] * 1000000 + time[2]
end

-- Return an integer as digits. Letting the server convert it costs more than the command itself.
local function whole(number)
  return string.format('%d', number)
end

-- Return the lowest score of a sorted set; nil if it is empty.
local function lowest(zset)
  return tonumber(call('ZRANGE', zset, 0, 0, 'WITHSCORES')[2])
end

-- Priorities: by how much a score of :due is less than the time at which its task is due, and the
-- lowest score of a low one.
local HIGH, NORMAL, LOW = 10500000000000000, 0, 6300000000000000
local FIRST_LOW = -4600000000000000

-- Return the earliest time in a sorted set whose scores are shifted like those of :due; nil if it is empty.
local function first_of(zset)
  local score = lowest(zset)
  if not score or score >= 0 then
    return score
  end
  local function first(shift, from, upto)
    local found = call('ZRANGEBYSCORE', zset, from, upto, 'WITHSCORES', 'LIMIT', 0, 1)
    return found[2] and found[2] + shift or math.huge
  end
  return math.min(
    first(HIGH, '-inf', '(' .. whole(FIRST_LOW)),
    first(NORMAL, '0', '+inf'),
    first(LOW, whole(FIRST_LOW), '(0')
  )
end

-- Return for each of the first *count* queues until when it is paused (µs); false if it is not.
local function pauses_of(queues, count, now)
  local found = {}
  for i = 1, count do
    local till = tonumber(call('GET', queues[i] .. ':off') or 0) or 0
    found[i] = till < 0 and math.huge or (till > now and till)
  end
  return found
end

-- Return a limit from its text; false if there is none.
local function read_limit(text)
  local at_once, starts, span = string.match(text, '^(%d+) (%d+) (%d+)$')
  return at_once and { at_once = tonumber(at_once), starts = tonumber(starts), span = span }
    or false
end

-- Return the limit of a queue; false if it has none.
local function limit_of(queue)
  return read_limit(call('GET', queue .. ':lim') or '')
end

-- Return until when no start is free (µs), of those that are recorded in a sorted set; false if one is.
local function next_start(begun, limit, now)
  if limit.starts > 0 then
    local place = limit.starts - 1
    local found = call('ZREVRANGE', begun, place, place, 'WITHSCORES')
    return found[2] and found[2] + limit.span > now and found[2] + limit.span
  end
  return false
end

-- Return until when a limit lets no task of its queue begin (µs; math.huge: until a lease ends); false if one
-- may begin now.
local function limited_until(queue, limit, now)
  if limit.at_once > 0 and call('ZCARD', queue .. ':run') >= limit.at_once then
    return math.huge
  end
  return next_start(queue .. ':begun', limit, now)
end

local function wake(queue)
  if call('EXISTS', queue .. ':wake') == 0 then
    call('RPUSH', queue .. ':wake', '')
  end
end

local function add(queue, counter, number)
  if number ~= 0 then
    call('HINCRBY', queue .. ':cnt', counter, number)
  end
end
