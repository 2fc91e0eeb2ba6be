-- Settle outcomes, reclaim expired leases, reserve the next tasks.
--
-- KEYS  the queues to reserve from, in order of priority, and those that outcomes are of
-- ARGV  limit, lease (µs), max_lost, how many dead to keep, for how long (µs), how many of KEYS to
--       reserve from, then the outcomes, each with the place of its queue in KEYS:
--         'ack'      place, how many, their ids
--         'retry'    place, id, fence, delay (µs), payload ('' to keep the one it has)
--         'release'  place, id, fence
--         'dead'     place, id, fence, why
-- Returns µs until a task is due or a lease ends (-1: neither), or when tasks were reserved the time
--       (µs), and for each of their queues its place, their ids each with since when it was ready
--       (µs), their payloads (nil: not reserved, for somebody took it away) and fences (nil: 0).

local RECLAIM_AT_ONCE = 32

local limit, lease, max_lost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local dead_limit, dead_age, places = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local now = clock()

-- Put a task to the dead, and drop the oldest of them if they are too many or too old: two at most,
-- so that they become fewer and nobody has to wait.
local function bury(queue, id, why)
  call('ZADD', queue .. ':dead', now, id)
  call('HSET', queue .. ':why', id, why)
  add(queue, 'died', 1)
  local oldest = call('ZRANGE', queue .. ':dead', 0, 1, 'WITHSCORES')
  local spare = call('ZCARD', queue .. ':dead') - dead_limit
  local dropped = 0
  for i = 1, #oldest, 2 do
    if dropped < spare or oldest[i + 1] + dead_age < now then
      call('ZREM', queue .. ':dead', oldest[i])
      call('HDEL', queue .. ':job', oldest[i])
      call('HDEL', queue .. ':try', oldest[i])
      call('HDEL', queue .. ':why', oldest[i])
      dropped = dropped + 1
    end
  end
  add(queue, 'dropped', dropped)
end

-- Settle outcomes.

-- End the lease of a task, unless it has passed on to another worker.
local function give_up(queue, id, fence)
  return (call('HGET', queue .. ':try', id) or '0') == fence and call('ZREM', queue .. ':run', id) == 1
end

local settle = {}

function settle.ack(queue, at)
  local count = tonumber(ARGV[at])
  local ids = { unpack(ARGV, at + 1, at + count) }
  local done = call('ZREM', queue .. ':run', unpack(ids))
  call('HDEL', queue .. ':job', unpack(ids))
  call('HDEL', queue .. ':try', unpack(ids))
  if done < count then
    -- A late one: the work is done, wherever its task has got to since.
    done = done + call('ZREM', queue .. ':due', unpack(ids))
    done = done + call('ZREM', queue .. ':dead', unpack(ids))
    call('HDEL', queue .. ':why', unpack(ids))
  end
  add(queue, 'succeeded', done)
  return at + count + 1
end

function settle.retry(queue, at)
  local id, fence, delay, payload = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 3]
  if give_up(queue, id, fence) then
    if payload ~= '' then
      call('HSET', queue .. ':job', id, payload)
    end
    call('HINCRBY', queue .. ':try', id, 1)
    call('ZADD', queue .. ':due', now + delay, id)
    add(queue, 'retried', 1)
    add(queue, 'failed', 1)
    announce(queue, now + delay, now)
  end
  return at + 4
end

function settle.release(queue, at)
  local id, fence = ARGV[at], ARGV[at + 1]
  if give_up(queue, id, fence) then
    -- It was the next to be run, and is so again.
    local due = math.min(now, (lowest(queue .. ':due') or now) - 1)
    call('HINCRBY', queue .. ':try', id, 1)
    call('ZADD', queue .. ':due', due, id)
    announce(queue, due, now)
  end
  return at + 2
end

function settle.dead(queue, at)
  local id, fence, why = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  if give_up(queue, id, fence) then
    add(queue, 'failed', 1)
    bury(queue, id, why)
  end
  return at + 3
end

local at = 7
while at <= #ARGV do
  at = settle[ARGV[at]](KEYS[tonumber(ARGV[at + 1])], at + 2)
end

if limit == 0 then
  return { -1 }
end

-- Reclaim expired leases.

local function reclaim(queue)
  local expired =
    call('ZRANGEBYSCORE', queue .. ':run', '-inf', now, 'WITHSCORES', 'LIMIT', 0, RECLAIM_AT_ONCE)
  for i = 1, #expired, 2 do
    local id, ended = expired[i], expired[i + 1]
    call('ZREM', queue .. ':run', id)
    local lost = math.floor(call('HINCRBY', queue .. ':try', id, LOST + 1) / LOST)
    if lost < max_lost then
      call('ZADD', queue .. ':due', ended, id)
    else
      local reason = 'lost ' .. lost .. ' times: its worker died or froze while it ran'
      bury(queue, id, cjson.encode({ reason, '' }))
    end
  end
  add(queue, 'lost', #expired / 2)
end

for place = 1, places do
  reclaim(KEYS[place])
end

-- Reserve the next tasks.

local reply = { -1 }
local left = limit

local function reserve(place, queue)
  local found =
    call('ZRANGEBYSCORE', queue .. ':due', '-inf', now, 'WITHSCORES', 'LIMIT', 0, left)
  if #found == 0 then
    return
  end
  local ids, count = {}, #found / 2
  for i = 1, count do
    ids[i] = found[2 * i - 1]
  end
  local payloads = call('HMGET', queue .. ':job', unpack(ids))
  local fences = call('HMGET', queue .. ':try', unpack(ids))
  local leases, reserved = {}, 0
  local ends = whole(now + lease)
  -- From the last to the first: a short sorted set is a list, and is searched from its beginning.
  for i = count, 1, -1 do
    if payloads[i] then
      reserved = reserved + 1
      leases[2 * reserved - 1] = ends
      leases[2 * reserved] = ids[i]
    end
  end
  call('ZREMRANGEBYRANK', queue .. ':due', 0, count - 1)
  if reserved > 0 then
    call('ZADD', queue .. ':run', unpack(leases))
    reply[#reply + 1] = { place, found, payloads, fences }
    left = left - reserved
  end
  -- Somebody else took the payload away: there is nothing left to run or to bury.
  add(queue, 'dropped', count - reserved)
end

for place = 1, places do
  if left > 0 then
    reserve(place, KEYS[place])
  end
end

if left < limit then
  reply[1] = now
end
if left == 0 then
  -- There may be more: one worker wakes the next, so that none is woken in vain.
  for place = 1, places do
    local due = lowest(KEYS[place] .. ':due')
    if due and due <= now then
      wake(KEYS[place])
    end
  end
elseif left == limit then
  local soonest = math.huge
  for place = 1, places do
    local queue = KEYS[place]
    local due = lowest(queue .. ':due')
    if not due then
      call('DEL', queue .. ':wake')
    end
    soonest = math.min(soonest, due or math.huge, lowest(queue .. ':run') or math.huge)
  end
  if soonest < math.huge then
    reply[1] = math.max(0, soonest - now)
  end
end

return reply
