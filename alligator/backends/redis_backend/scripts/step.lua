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
local LOOK_AT_ONCE = 100
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

-- End the lease of a task and return its key; nothing if another worker has the task now.
local function give_up(queue, id, fence)
  local key, known = find(queue, id, fence)
  if known == fence and call('ZREM', queue .. ':run', key) == 1 then
    end_lease(queue, key, now)
    return key
  end
end

-- The same for the tasks with limit keys of those that are done.
local function end_leases(queue, keys)
  local ended = 0
  for _, key in ipairs(keys) do
    if limit_key_of(queue, key) and call('ZREM', queue .. ':run', key) == 1 then
      end_lease(queue, key, now)
      ended = ended + 1
    end
  end
  return ended
end

local apply = {}

function apply.ack(queue, at)
  local count, given = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local first = at + 2 + count
  local ids = { unpack(ARGV, at + 2, first - 1) }
  local known = call('HMGET', queue .. ':try', unpack(ids))
  local others = {}
  local fence = ARGV[first]
  for i = 1, count do
    if given > 1 then
      fence = ARGV[first + i - 1]
    end
    if known[i] ~= fence then
      -- It is late, or a newer task has its id. It applies to its own push, or to nothing.
      ids[i] = find(queue, ids[i], fence) or ALIAS
      others[#others + 1] = ids[i]
    end
  end
  local done = has_lines(queue) and end_leases(queue, ids) or 0
  if done < count then
    done = done + call('ZREM', queue .. ':run', unpack(ids))
  end
  update_keys(queue, ids, 'done')
  settle(queue, ids, 0, now)
  call('HDEL', queue .. ':job', unpack(ids))
  call('HDEL', queue .. ':try', unpack(ids))
  if done < count then
    -- The work is done, in whatever state the task is now.
    if has_lines(queue) then
      for _, key in ipairs(ids) do
        done = done + remove_waiting(queue, key, now)
      end
    else
      done = done + call('ZREM', queue .. ':due', unpack(ids))
    end
    done = done + call('ZREM', queue .. ':dead', unpack(ids))
    call('HDEL', queue .. ':why', unpack(ids))
  end
  drop_limit_keys(queue, ids)
  for _, key in ipairs(others) do
    forget_alias(queue, key)
  end
  add(queue, 'succeeded', done)
  return first + given
end

function apply.retry(queue, at)
  local delay, payload = tonumber(ARGV[at + 2]), ARGV[at + 3]
  local key = give_up(queue, ARGV[at], ARGV[at + 1])
  if key then
    if payload ~= '' then
      call('HSET', queue .. ':job', key, payload)
    end
    add_waiting(queue, key, whole(now + delay - priority_in(ARGV[at + 1])), now)
    add(queue, 'retried', 1)
    add(queue, 'failed', 1)
    announce(queue, now + delay, now)
  end
  return at + 4
end

-- Return when a released task is due.
local function due_again(queue, key, fence, delay)
  if delay > 0 then
    return now + delay
  end
  -- It becomes scheduled again, or the next to run.
  if #fence >= 52 then
    return tonumber(string.sub(fence, 37, 52))
  end
  local shift = priority_in(fence)
  local from, upto = range_of(shift)
  local limit_key = limit_key_of(queue, key)
  local waiting = queue .. (limit_key and ':line' .. ALIAS .. limit_key or ':due')
  local first = call('ZRANGEBYSCORE', waiting, from, upto, 'WITHSCORES', 'LIMIT', 0, 1)
  return math.min(now, (first[2] and first[2] + shift or now) - 1)
end

function apply.release(queue, at)
  local fence, payload = ARGV[at + 1], ARGV[at + 3]
  local key = give_up(queue, ARGV[at], fence)
  if key then
    if payload ~= '' then
      call('HSET', queue .. ':job', key, payload)
    end
    local due = due_again(queue, key, fence, tonumber(ARGV[at + 2]))
    add_waiting(queue, key, whole(due - priority_in(fence)), now)
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
    local due = (queue_limit or has_others) and till <= now + SOON and next_due(queue)
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
    end_lease(queue, key, now)
    local fence = modern(call('HGET', queue .. ':try', key), stamp)
    -- In a batch it is unknown which task was running.
    local alone = marks_of(fence) % 2
    local lost = lost_of(fence) + alone
    local shift, digit = priority_in(fence)
    call('HSET', queue .. ':try', key, fence_of(fence, stamp, lost, 2) .. digit)
    if alone == 1 and lost >= max_lost then
      local reason = 'lost ' .. lost .. ' times: its worker died or froze while it ran'
      bury(queue, key, cjson.encode({ reason, '' }))
    else
      add_waiting(queue, key, whole(ended - shift), now)
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

-- Lease tasks that were found, with or without shifts of their priorities.
local function take(place, queue, keys, fences, found, shifts)
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
  if shifts then
    call('ZREM', queue .. ':due', unpack(keys))
  else
    call('ZREMRANGEBYRANK', queue .. ':due', 0, #keys - 1)
  end
  if reserved > 0 then
    call('ZADD', queue .. ':run', unpack(leases))
    reply[#reply + 1] = { place, found, payloads, fences, keys, shifts }
    left = left - reserved
  end
  -- Another program deleted these payloads: there is nothing to run or to dead-letter.
  add(queue, 'dropped', #keys - reserved)
  return payloads
end

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
    take(place, queue, keys, fences, found, shifts)
  end
end

-- Record that a task begins, and forget the starts that no limit of so many counts any more.
local function record_start(begun, starts)
  call('ZADD', begun, stamp, stamp)
  call('ZREMRANGEBYRANK', begun, 0, -1 - starts)
end

-- The same for a key with that limit; forget those of up to two other keys whose time is over.
local function record_key_start(queue, limit_key, key_limit)
  if key_limit.starts == 0 then
    return
  end
  for _, other in ipairs(call('ZRANGEBYSCORE', queue .. ':fade', '-inf', stamp, 'LIMIT', 0, 2)) do
    call('ZREM', queue .. ':fade', other)
    call('DEL', queue .. ':begun' .. ALIAS .. other)
  end
  call('ZADD', queue .. ':fade', 'GT', whole(now + key_limit.span), limit_key)
  record_start(queue .. ':begun' .. ALIAS .. limit_key, key_limit.starts)
end

-- Take the first task of a line, whose turn it is, and place the line behind all others of its priority, or
-- where its limit lets it go on. *turn* is the number of this turn in the step.
local function take_turn(queue, limit_key, shift, key, key_limit, turn)
  call('ZREM', queue .. ':lined', key)
  call('ZREM', queue .. ':line' .. ALIAS .. limit_key, key)
  local busy, till = count_lease(queue, limit_key), nil
  if key_limit then
    record_key_start(queue, limit_key, key_limit)
    till = key_limited_until(queue, limit_key, key_limit, now, busy)
  end
  local head, due = head_of(queue, limit_key, shift)
  if head then
    local place = till and shut_line or place_line
    place(queue, limit_key, shift, math.max(due, till or now + turn))
  else
    call('ZREM', queue .. ':turns', member_of(limit_key, shift))
  end
end

-- Reserve up to *most* tasks of a queue with lines, in turns.
local function reserve_in_turns(place, queue, most)
  local keys, fences, found, shifts, limit_keys = {}, {}, {}, {}, {}
  local closed, looks = {}, 0

  -- Add a task, and return true; false if it is a suspect, and the step ends before it.
  local function add_task(key, due, shift, limit_key)
    local fence = call('HGET', queue .. ':try', key)
    local is_suspect = fence and #fence ~= 16 and marks_of(modern(fence, stamp)) >= 2
    if is_suspect then
      has_stopped = true
      if #keys > 0 or left < limit then
        return false
      end
    end
    local n = #keys + 1
    keys[n], fences[n], shifts[n], limit_keys[n] = key, fence, shift, limit_key or false
    found[2 * n - 1], found[2 * n] = key, whole(due)
    return true
  end

  -- Look at the line whose turn it is; return by how many this line and those before it have to be skipped.
  local function look_at(limit_key, shift, at)
    local key, due = head_of(queue, limit_key, shift)
    local key_limit = key and due <= now and key_limit_of(queue, limit_key)
    local till = key_limit and not closed[limit_key]
      and key_limited_until(queue, limit_key, key_limit, now)
    if not key then
      call('ZREM', queue .. ':turns', member_of(limit_key, shift))
    elseif due > now then
      place_line(queue, limit_key, shift, due)
      return due <= now + limit and 1 or 0
    elseif till then
      shut_line(queue, limit_key, shift, till)
      return till <= now + limit and 1 or 0
    elseif closed[limit_key] then
      return 1
    elseif add_task(key, due, shift, limit_key) then
      closed[limit_key] = key_limit and true
      changed[queue] = changed[queue] or (key_limit and true)
      take_turn(queue, limit_key, shift, key, key_limit, #keys)
    end
    return 0
  end

  local had_turns = call('HMGET', queue .. ':turn', '1', '0', '2')
  for level, shift in ipairs({ HIGH, NORMAL, LOW }) do
    local from, digit = range_of(shift), member_of('', shift)
    local plain = call('ZRANGEBYSCORE', queue .. ':due', from, whole(now - shift), 'WITHSCORES',
      'LIMIT', 0, most - #keys)
    local had = tonumber(had_turns[level] or 0)
    local n, skip, has_turned = 1, 0, false
    while #keys < most and not has_stopped and looks < LOOK_AT_ONCE + 2 * most do
      looks = looks + 1
      local line = call('ZRANGEBYSCORE', queue .. ':turns', from, whole(now + limit - shift),
        'WITHSCORES', 'LIMIT', skip, 1)
      local at = line[2] and line[2] + shift
      if plain[n] and (not at or had <= at) then
        if add_task(plain[n], plain[n + 1] + shift, shift) then
          n, had, has_turned = n + 2, now + #keys, true
        end
      elseif at then
        skip = skip + look_at(string.sub(line[1], 2), shift, at)
      else
        break
      end
    end
    if has_turned then
      call('HSET', queue .. ':turn', digit, whole(had))
    end
  end
  if #keys > 0 then
    local payloads = take(place, queue, keys, fences, found, shifts)
    for i, limit_key in ipairs(limit_keys) do
      if limit_key and not payloads[i] then
        end_lease(queue, keys[i], now)
      end
    end
  end
end

local function reserve_up_to(place, queue, most)
  if has_lines(queue) and call('EXISTS', queue .. ':turns') == 1 then
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
  local place, found, payloads, fences, keys, shifts = unpack(reply[i])
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
      drop_limit_keys(KEYS[place], { keys[k] })
      update_keys(KEYS[place], { keys[k] }, 'gone')
      settle(KEYS[place], { keys[k] }, 1, now)
    else
      words[last + 1], words[last + 2] = keys[k], fence
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
    local due = is_open and next_due(queue)
    if due and due <= now then
      wake(queue)
    end
  end
end
return reply
