-- The part that is shared by the scripts that add or remove tasks; it follows `priorities`.
--
-- Tasks with limit keys wait in lines, one for each priority and key, and lines take turns:
--
--   :key   HASH  key of a task -> its limit key, in every state of the task
--   :lined ZSET  key of a task -> its score as in :due                    ready or scheduled
--   :line, ALIAS and a limit key: ZSET, the same for the tasks of that limit key
--   :turns ZSET  digit of a priority and limit key -> when the next task of that line may begin (µs; inf: when a
--          lease of the limit key ends), shifted like the scores of :due. The lowest is the next.
--   :turn  HASH  digit of a priority -> when a task without a limit key had the last turn (µs)
--   :busy  HASH  limit key -> how many of its tasks are leased
--   :shut  HASH  limit key -> 1, if its limit may have put a line of it off
--   :klim  HASH  limit key, or * -> limit, as in :lim
--   :begun, ALIAS and a limit key: ZSET as :begun
--   :fade  ZSET  limit key -> when all that :begun of it has is over (µs)
--
-- Where a line stands in :turns may be too early: a step looks again, and corrects it.

local known = {}

-- Return whether a queue has tasks with limit keys. For others, this is one look for each script.
local function has_lines(queue)
  if known[queue] == nil then
    known[queue] = call('EXISTS', queue .. ':key') == 1
  end
  return known[queue]
end

-- Return the limit key of a task; nothing if it has none.
local function limit_key_of(queue, key)
  return has_lines(queue) and call('HGET', queue .. ':key', key) or nil
end

-- Give a new task its limit key, if it has one.
local function set_limit_key(queue, key, limit_key)
  if limit_key then
    call('HSET', queue .. ':key', key, limit_key)
    known[queue] = true
  end
end

local function drop_limit_keys(queue, keys)
  if has_lines(queue) then
    call('HDEL', queue .. ':key', unpack(keys))
  end
end

-- Return the score of a task that waits; nil if it does not.
local function waiting_score(queue, key)
  return tonumber(call('ZSCORE', queue .. ':due', key)
    or (has_lines(queue) and call('ZSCORE', queue .. ':lined', key)) or nil)
end

-- Lines.

local function member_of(limit_key, shift)
  local digit = digit_of(shift)
  return (digit == '' and '0' or digit) .. limit_key
end

-- Return the first task of a line, and when it is due.
local function head_of(queue, limit_key, shift)
  local from, upto = range_of(shift)
  local found = call('ZRANGEBYSCORE', queue .. ':line' .. ALIAS .. limit_key, from, upto,
    'WITHSCORES', 'LIMIT', 0, 1)
  return found[1], found[2] and found[2] + shift
end

local function place_line(queue, limit_key, shift, at)
  call('ZADD', queue .. ':turns', at == math.huge and '+inf' or whole(at - shift),
    member_of(limit_key, shift))
end

-- Place a line to which a task has come.
local function join_line(queue, limit_key, shift, due, now)
  local score = tonumber(call('ZSCORE', queue .. ':turns', member_of(limit_key, shift)) or nil)
  local at, open = score and score + shift, math.max(due, now)
  if not at or (at > open and at < math.huge) then
    place_line(queue, limit_key, shift, open)
  end
end

-- Place a line from which a task was taken away.
local function leave_line(queue, limit_key, shift, now)
  local head, due = head_of(queue, limit_key, shift)
  local member = member_of(limit_key, shift)
  if not head then
    call('ZREM', queue .. ':turns', member)
    return
  end
  local score = tonumber(call('ZSCORE', queue .. ':turns', member) or nil)
  if not score or score + shift < due then
    place_line(queue, limit_key, shift, math.max(due, now))
  end
end

-- Put a line off, because of the limit of its key.
local function shut_line(queue, limit_key, shift, till)
  call('HSET', queue .. ':shut', limit_key, 1)
  place_line(queue, limit_key, shift, till)
end

-- Return the lines of a limit key to the turns, because one of its leases has ended, or its limit has changed.
local function reopen(queue, limit_key, now)
  if call('HDEL', queue .. ':shut', limit_key) == 0 then
    return
  end
  for _, shift in ipairs({ HIGH, NORMAL, LOW }) do
    local member = member_of(limit_key, shift)
    local score = tonumber(call('ZSCORE', queue .. ':turns', member) or nil)
    if score and score + shift > now then
      local head, due = head_of(queue, limit_key, shift)
      if head then
        place_line(queue, limit_key, shift, math.max(due, now))
      else
        call('ZREM', queue .. ':turns', member)
      end
    end
  end
end

-- Tasks.

local function add_waiting(queue, key, score, now)
  local limit_key = limit_key_of(queue, key)
  if not limit_key then
    call('ZADD', queue .. ':due', score, key)
    return
  end
  call('ZADD', queue .. ':lined', score, key)
  call('ZADD', queue .. ':line' .. ALIAS .. limit_key, score, key)
  local shift = shift_of(tonumber(score))
  join_line(queue, limit_key, shift, score + shift, now)
end

-- Remove a task from those that wait; return 0 if it does not wait.
local function remove_waiting(queue, key, now)
  local limit_key = limit_key_of(queue, key)
  local score = limit_key and tonumber(call('ZSCORE', queue .. ':lined', key) or nil)
  if not score then
    return call('ZREM', queue .. ':due', key)
  end
  call('ZREM', queue .. ':lined', key)
  call('ZREM', queue .. ':line' .. ALIAS .. limit_key, key)
  leave_line(queue, limit_key, shift_of(score), now)
  return 1
end

-- Return when the next task of a queue may begin, apart from its limit; nil if no time is known.
local function next_due(queue)
  local due = first_of(queue .. ':due')
  local turn = has_lines(queue) and first_of(queue .. ':turns')
  due = math.min(due or math.huge, turn or math.huge)
  return due < math.huge and due or nil
end

-- Wake a worker for a new task of the queue, if it is the next one to run.
local function announce(queue, due, now)
  if due <= now or next_due(queue) == due then
    wake(queue)
  end
end

-- Limits of keys.

local limited = {}

local function has_key_limits(queue)
  if limited[queue] == nil then
    limited[queue] = call('EXISTS', queue .. ':klim') == 1
  end
  return limited[queue]
end

-- Return the limit of a key; false if it has none.
local function key_limit_of(queue, limit_key)
  if not has_key_limits(queue) then
    return false
  end
  local found = call('HMGET', queue .. ':klim', limit_key, '*')
  return read_limit(found[1] or found[2] or '')
end

-- Return until when the limit of a key lets no task begin, as `limited_until`; *busy* is how many are leased.
local function key_limited_until(queue, limit_key, limit, now, busy)
  if limit.at_once > 0
    and (busy or tonumber(call('HGET', queue .. ':busy', limit_key) or 0)) >= limit.at_once then
    return math.huge
  end
  return next_start(queue .. ':begun' .. ALIAS .. limit_key, limit, now)
end

-- Record the lease of a task, and return how many of its limit key there are.
local function count_lease(queue, limit_key)
  return limit_key and call('HINCRBY', queue .. ':busy', limit_key, 1)
end

-- Record that the lease of a task has ended.
local function end_lease(queue, key, now)
  local limit_key = limit_key_of(queue, key)
  if not limit_key then
    return
  end
  if call('HINCRBY', queue .. ':busy', limit_key, -1) <= 0 then
    call('HDEL', queue .. ':busy', limit_key)
  end
  if has_key_limits(queue) then
    reopen(queue, limit_key, now)
  end
end
