-- What the scripts share: this stands before each of them.
--
-- A key of a queue is {namespace}:QUEUE, and what the queue consists of is named after it:
--
--   :due   ZSET  id -> when it is, or was, ready (µs)      ready or scheduled
--   :run   ZSET  id -> when its lease ends (µs)            leased
--   :dead  ZSET  id -> when it died (µs)                   dead
--   :job   HASH  id -> payload, in whatever state the task is
--   :try   HASH  id -> fence, absent while it is 0
--   :why   HASH  id -> JSON of [reason, traceback], of the dead
--   :cnt   HASH  counter -> number
--   :sum   HASH  figure -> number; a queue without a name has those of no queue
--   :past  HASH  place in a ring -> when (µs), ready, scheduled, leased, dead, pushed, succeeded, failed
--   :wake  LIST  of at most one token; taking it ends the wait of one worker
--
-- A task is in exactly one of the three sorted sets. Its fence goes up by 1 whenever it is given
-- back, so that no two of its leases have the same, and by LOST more when its worker fell silent.
--
-- Every script but push takes something away before it adds anything. A server that is out of
-- memory refuses only scripts that begin by adding: no more can be pushed, and workers go on.

local call = redis.call

local LOST = 4294967296

local function clock()
  local time = call('TIME')
  return time[1] * 1000000 + time[2]
end

-- A whole number in digits. To leave that to the server costs more than all it does with it then.
local function whole(number)
  return string.format('%d', number)
end

-- The lowest score of a sorted set; nil when it is empty.
local function lowest(zset)
  return tonumber(call('ZRANGE', zset, 0, 0, 'WITHSCORES')[2])
end

local function wake(queue)
  if call('EXISTS', queue .. ':wake') == 0 then
    call('RPUSH', queue .. ':wake', '')
  end
end

-- Wake a worker for a task that came onto the queue, if it is the next one to be run.
local function announce(queue, due, now)
  if due <= now or lowest(queue .. ':due') == due then
    wake(queue)
  end
end

local function add(queue, counter, number)
  if number ~= 0 then
    call('HINCRBY', queue .. ':cnt', counter, number)
  end
end
