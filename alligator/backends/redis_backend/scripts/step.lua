-- Apply outcomes, reclaim expired leases, reserve the next tasks.
--
-- KEYS  the queues to reserve from, in order of priority, then the other queues of the outcomes
-- ARGV  limit, lease (µs), max_lost, how many dead to keep (-1: any number), for how long (µs), how
--       many of KEYS to reserve from, then the outcomes, each with the position of its queue in KEYS:
--         'ack'      position, how many, how many fences, their ids, their fences (one if all have the same)
--         'retry'    position, id, fence, delay (µs), payload ('' to keep the current one)
--         'release'  position, id, fence, delay (µs; 0: back to its place), payload ('' as above)
--         'dead'     position, id, fence, why
--         'expired'  position, id, fence, why, payload ('' as above)
-- Returns µs until a task is due or a lease ends (-1: neither). If tasks were reserved: the time (µs),
--       and for each of their queues its position, their keys, each with the time from which it was
--       ready (µs), their payloads (nil: not reserved, because another program deleted it), and fences (one
--       if all have the same).

local RECLAIM_AT_ONCE = 32
local SOON = 5000000

-- Redis stores a short hash as a list, in which each look-up is a search. With a long value it is a table.
local FEW, LONG = 16, string.rep('.', 65)

local limit, lease, max_lost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local dead_limit, dead_age, places = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local now = clock()
local stamp = whole(now)

-- Dead-letter a task, and drop the oldest dead letters if there are too many, or if they are too old:
-- at most two, so that their number shrinks and the script stays short.
local function bury(queue, key, why)
  update_keys(queue, { key }, 'gone')
  settle(queue, { key }, 1, now)
  call('ZADD', queue .. ':dead', now, key)
  call('HSET', queue .. ':why', key, why)
  add(queue, 'died', 1)
  local oldest = call('ZRANGE', queue .. ':dead', 0, 1, 'WITHSCORES')
  local spare = dead_limit < 0 and 0 or call('ZCARD', queue .. ':dead') - dead_limit
  local dropped = 0
  for i = 1, #oldest, 2 do
    if dropped < spare or oldest[i + 1] + dead_age < now then
      call('ZREM', queue .. ':dead', oldest[i])
      forget(queue, oldest[i])
      dropped = dropped + 1
    end
  end
  add(queue, 'dropped', dropped)
end

-- Apply outcomes.

-- End the lease of a task and return its key and limit key; nothing if another worker has the task now.
local function give_up(queue, id, fence)
  local key, known, limit_key = find(queue, id, fence)
  if known == fence and call('ZREM', queue .. ':run', key) == 1 then
    end_leases(queue, { limit_key }, now)
    return key, limit_key
  end
end

local apply = {}

function apply.ack(queue, at)
  local count, given = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local first = at + 2 + count
  local ids = { unpack(ARGV, at + 2, first - 1) }
  local known = call('HMGET', queue .. ':try', unpack(ids))
  local others, limit_keys = {}, {}
  local fence = ARGV[first]
  local start = fence .. ALIAS
  for i = 1, count do
    if given > 1 then
      fence = ARGV[first + i - 1]
      start = fence .. ALIAS
    end
    local text = known[i]
    if text ~= fence then
      if text and string.sub(text, 1, #start) == start then
        limit_keys[i] = string.sub(text, #start + 1)
      else
        -- It is late, or a newer task has its id. It applies to its own push, or to nothing.
        local key, _, limit_key = find(queue, ids[i], fence)
        ids[i], limit_keys[i] = key or ALIAS, limit_key
        others[#others + 1] = ids[i]
      end
    end
  end
  local done = call('ZREM', queue .. ':run', unpack(ids))
  if done < count then
    -- The work is done, in whatever state the task is now.
    local seen = {}
    for i, key in ipairs(ids) do
      if remove_waiting(queue, key, now) == 1 or call('ZREM', queue .. ':dead', key) == 1 then
        done = done + 1
        seen[key] = true
      end
      limit_keys[i] = not seen[key] and limit_keys[i] or nil
      seen[key] = true
    end
    call('HDEL', queue .. ':why', unpack(ids))
  end
  end_leases(queue, limit_keys, now)
  update_keys(queue, ids, 'done')
  settle(queue, ids, 0, now)
  call('HDEL', queue .. ':job', unpack(ids))
  call('HDEL', queue .. ':try', unpack(ids))
  for _, key in ipairs(others) do
    forget_alias(queue, key)
  end
  add(queue, 'succeeded', done)
  return first + given
end

function apply.retry(queue, at)
  local delay, payload = tonumber(ARGV[at + 2]), ARGV[at + 3]
  local key, limit_key = give_up(queue, ARGV[at], ARGV[at + 1])
  if key then
    if payload ~= '' then
      call('HSET', queue .. ':job', key, payload)
    end
    add_waiting(queue, key, whole(now + delay - priority_in(ARGV[at + 1])), now, limit_key)
    add(queue, 'retried', 1)
    add(queue, 'failed', 1)
    announce(queue, now + delay, now)
  end
  return at + 4
end

-- Return when a released task is due.
local function due_again(queue, limit_key, fence, delay)
  if delay > 0 then
    return now + delay
  end
  -- It becomes scheduled again, or the next to run.
  if #fence >= 52 then
    return tonumber(string.sub(fence, 37, 52))
  end
  local shift = priority_in(fence)
  local from, upto = range_of(shift)
  local waiting = limit_key and tasks_of(queue, line_of(limit_key, shift)) or queue .. ':due'
  local first = call('ZRANGEBYSCORE', waiting, from, upto, 'WITHSCORES', 'LIMIT', 0, 1)
  return math.min(now, (first[2] and first[2] + shift or now) - 1)
end

function apply.release(queue, at)
  local fence, payload = ARGV[at + 1], ARGV[at + 3]
  local key, limit_key = give_up(queue, ARGV[at], fence)
  if key then
    if payload ~= '' then
      call('HSET', queue .. ':job', key, payload)
    end
    local due = due_again(queue, limit_key, fence, tonumber(ARGV[at + 2]))
    add_waiting(queue, key, whole(due - priority_in(fence)), now, limit_key)
    announce(queue, due, now)
  end
  return at + 4
end

function apply.dead(queue, at)
  local key = give_up(queue, ARGV[at], ARGV[at + 1])
  if key then
    add(queue, 'failed', 1)
    bury(queue, key, ARGV[at + 2])
  end
  return at + 3
end

function apply.expired(queue, at)
  local payload = ARGV[at + 3]
  local key = give_up(queue, ARGV[at], ARGV[at + 1])
  if key then
    if payload ~= '' then
      call('HSET', queue .. ':job', key, payload)
    end
    add(queue, 'expired', 1)
    bury(queue, key, ARGV[at + 2])
  end
  return at + 4
end

local changed, limits = {}, {}
local at = 7
while at <= #ARGV do
  local queue = KEYS[tonumber(ARGV[at + 1])]
  changed[queue] = true
  at = apply[ARGV[at]](queue, at + 2)
end

-- Where a task has begun or ended, wake a worker if the limit of the queue allows the next one, or will do
-- so soon. This worker may be busy then, and others look only every few seconds.
local function wake_changed()
  for queue in pairs(changed) do
    local queue_limit = limits[queue]
    if queue_limit == nil then
      queue_limit = limit_of(queue)
    end
    local till = queue_limit and limited_until(queue, queue_limit, now) or now
    local has_others = has_lines(queue) and has_key_limits(queue)
    local due = (queue_limit or has_others) and till <= now + SOON and next_due(queue, now)
    if due and due <= (has_others and now + SOON or now) then
      wake(queue)
    end
  end
end

if limit == 0 then
  wake_changed()
  return { -1 }
end

-- Reclaim expired leases.

local function reclaim(queue)
  local expired =
    call('ZRANGEBYSCORE', queue .. ':run', '-inf', now, 'WITHSCORES', 'LIMIT', 0, RECLAIM_AT_ONCE)
  for i = 1, #expired, 2 do
    local key, ended = expired[i], expired[i + 1]
    call('ZREM', queue .. ':run', key)
    local known, limit_key = read_try(call('HGET', queue .. ':try', key))
    end_leases(queue, { limit_key }, now)
    local fence = modern(known, stamp)
    -- In a batch it is unknown which task was running.
    local alone = marks_of(fence) % 2
    local lost = lost_of(fence) + alone
    local shift, digit = priority_in(fence)
    fence = fence_of(fence, stamp, lost, 2) .. digit
    call('HSET', queue .. ':try', key, written_try(fence, limit_key))
    if alone == 1 and lost >= max_lost then
      local reason = 'lost ' .. lost .. ' times: its worker died or froze while it ran'
      bury(queue, key, cjson.encode({ reason, '' }))
    else
      add_waiting(queue, key, whole(ended - shift), now, limit_key)
    end
  end
  add(queue, 'lost', #expired / 2)
end

for place = 1, places do
  reclaim(KEYS[place])
end

-- Reserve the next tasks.

local paused = pauses_of(KEYS, places, now)
local reply = { -1 }
local left = limit
local has_stopped = false

-- Return how many of *fences* can be leased: up to the first suspect, which must be leased alone.
local function room(fences)
  for i = 1, #fences do
    local fence = fences[i]
    if fence and #fence ~= 16 and marks_of(modern(fence, stamp)) >= 2 then
      has_stopped = true
      return (i == 1 and left == limit) and 1 or i - 1
    end
  end
  return #fences
end

-- Return up to *most* ready tasks by their priorities, each with when it was due; and the shift of each.
local function sorted(queue, most)
  local found, shifts = {}, {}
  for _, shift in ipairs({ HIGH, NORMAL, LOW }) do
    local some = call('ZRANGEBYSCORE', queue .. ':due', (range_of(shift)), whole(now - shift),
      'WITHSCORES', 'LIMIT', 0, most - #shifts)
    for i = 1, #some, 2 do
      shifts[#shifts + 1] = shift
      found[#found + 1] = some[i]
      found[#found + 1] = whole(some[i + 1] + shift)
    end
  end
  return found, shifts
end

-- Lease tasks that were found, with or without shifts of their priorities and limit keys.
local function take(place, queue, keys, fences, found, shifts, limit_keys)
  local payloads = call('HMGET', queue .. ':job', unpack(keys))
  local leases, reserved = {}, 0
  local ends = whole(now + lease)
  -- From the last to the first: a short sorted set is stored as a list and searched from its start.
  for i = #keys, 1, -1 do
    if payloads[i] then
      reserved = reserved + 1
      leases[2 * reserved - 1] = ends
      leases[2 * reserved] = keys[i]
    end
  end
  if reserved > 0 then
    call('ZADD', queue .. ':run', unpack(leases))
    reply[#reply + 1] = { place, found, payloads, fences, keys, shifts, limit_keys }
    left = left - reserved
  end
  -- Another program deleted these payloads: there is nothing to run or to dead-letter.
  add(queue, 'dropped', #keys - reserved)
  return payloads
end

-- Reserve up to *most* tasks of a queue.
local function reserve(place, queue, most)
  local found =
    call('ZRANGEBYSCORE', queue .. ':due', '-inf', now, 'WITHSCORES', 'LIMIT', 0, most)
  local shifts
  if #found > 0 and tonumber(found[2]) < 0 then
    found, shifts = sorted(queue, most)
  end
  if #found == 0 then
    return
  end
  local keys = {}
  for i = 1, #found / 2 do
    keys[i] = found[2 * i - 1]
  end
  local fences = call('HMGET', queue .. ':try', unpack(keys))
  local count = room(fences)
  for i = #keys, count + 1, -1 do
    keys[i], fences[i], found[2 * i], found[2 * i - 1] = nil, nil, nil, nil
  end
  if count > 0 then
    if shifts then
      call('ZREM', queue .. ':due', unpack(keys))
    else
      call('ZREMRANGEBYRANK', queue .. ':due', 0, count - 1)
    end
    take(place, queue, keys, fences, found, shifts)
  end
end

-- Record that a task begins, and forget the starts that no limit of so many counts any more.
local function record_start(begun, starts)
  call('ZADD', begun, stamp, stamp)
  call('ZREMRANGEBYRANK', begun, 0, -1 - starts)
end

-- The same in turns, if tasks with limit keys wait.
local function reserve_in_turns(place, queue, most)
  local picks = pick_in_turns(queue, most, limit, now)
  local keys, fences, count = picks.keys, {}, 0
  if #keys > 0 then
    for i, text in ipairs(call('HMGET', queue .. ':try', unpack(keys))) do
      fences[i] = read_try(text) or false
    end
    count = room(fences)
  end
  for i = #fences, count + 1, -1 do
    fences[i] = nil
  end
  local found, limit_keys = keep_picks(queue, picks, count, now)
  if count > 0 then
    changed[queue] = changed[queue] or picks.has_limit
    local payloads = take(place, queue, keys, fences, found, picks.shifts, limit_keys)
    local gone = {}
    for i = 1, count do
      if not payloads[i] and limit_keys[i] then
        gone[#gone + 1] = limit_keys[i]
      end
    end
    end_leases(queue, gone, now)
  end
end

local function reserve_up_to(place, queue, most)
  if has_lines(queue) then
    reserve_in_turns(place, queue, most)
  else
    reserve(place, queue, most)
  end
end

-- Reserve one task of a queue that has a limit, and record that it begins.
local function reserve_one(place, queue, starts)
  local before = left
  reserve_up_to(place, queue, 1)
  if left < before then
    changed[queue] = true
    if starts > 0 then
      record_start(queue .. ':begun', starts)
    end
  end
end

local limited = {}
for place = 1, places do
  local queue = KEYS[place]
  local queue_limit = limit_of(queue)
  limits[queue] = queue_limit
  limited[place] = queue_limit and limited_until(queue, queue_limit, now)
  if left > 0 and not has_stopped and not paused[place] and not limited[place] then
    if queue_limit then
      reserve_one(place, queue, queue_limit.starts)
    else
      reserve_up_to(place, queue, left)
    end
  end
end

-- Give each lease its fence, which also records whether it is the only one of the step.
local mark = left == limit - 1 and 1 or 0
local fresh = mark == 0 and stamp or fence_of(stamp, stamp, 0, mark)

for i = 2, #reply do
  local place, found, payloads, fences, keys, shifts, limit_keys = unpack(reply[i])
  local words, last, differ = {}, 0, false
  for k = 1, #keys do
    local fence = fresh
    if fences[k] then
      fence = modern(fences[k], stamp)
      local suspect = marks_of(fence) >= 2 and 2 or 0
      fence = fence_of(fence, stamp, lost_of(fence), suspect + mark)
    end
    if shifts and shifts[k] ~= NORMAL then
      fence = (#fence == 16 and fence_of(fence, stamp, 0, 0) or fence) .. digit_of(shifts[k])
    end
    fences[k] = fence
    differ = differ or fence ~= fences[1]
    if not payloads[k] then
      update_keys(KEYS[place], { keys[k] }, 'gone')
      settle(KEYS[place], { keys[k] }, 1, now)
    else
      words[last + 1], words[last + 2] = keys[k], written_try(fence, limit_keys and limit_keys[k])
      last = last + 2
    end
  end
  if #keys > FEW then
    words[last + 1], words[last + 2] = '', LONG
  end
  call('HSET', KEYS[place] .. ':try', unpack(words))
  update_keys(KEYS[place], keys, 'start')
  reply[i] = { place, found, payloads, differ and fences or { fences[1] } }
end

wake_changed()

if left == limit then
  local soonest = math.huge
  for place = 1, places do
    local queue = KEYS[place]
    local due = next_due(queue)
    local till = math.max(paused[place] or 0, limited[place] or 0)
    if till > now or not due then
      call('DEL', queue .. ':wake')
    end
    due = due and math.max(due, till)
    soonest = math.min(soonest, due or math.huge, lowest(queue .. ':run') or math.huge)
  end
  if soonest < math.huge then
    reply[1] = math.max(0, soonest - now)
  end
  return reply
end

reply[1] = now
if left == 0 or has_stopped then
  -- There may be more tasks: one worker wakes the next, so that none is woken without a task.
  for place = 1, places do
    local queue = KEYS[place]
    local has_limit = limits[queue] or (has_lines(queue) and has_key_limits(queue))
    local is_open = not paused[place] and not limited[place] and not (has_limit and changed[queue])
    local due = is_open and next_due(queue, now)
    if due and due <= now then
      wake(queue)
    end
  end
end
return reply
