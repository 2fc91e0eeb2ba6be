-- The part that is shared by the scripts that add or remove tasks; it follows `priorities`.
--
-- Tasks with limit keys wait in lines, one for each priority and key, and lines take turns:
--
--   :lined ZSET  key of a task -> its score as in :due                    ready or scheduled
--   :line, ALIAS and a line: ZSET, the same for the tasks of that line. A line is the digit of its priority and
--          its limit key.
--   :turns ZSET  line -> when its next task may begin (µs; inf: when a lease of the limit key ends), shifted like
--          the scores of :due. The lowest is the next.
--   :turn  HASH  digit of a priority -> when a task without a limit key had the last turn (µs)
--   :klim  HASH  limit key, or * -> limit, as in :lim
--   :busy  HASH  limit key -> how many of its tasks are leased, negative if a line of it may be put off until one
--          of them ends; only while any key has a limit
--   :begun, ALIAS and a limit key: ZSET as :begun
--   :fade  ZSET  limit key -> when all that :begun of it has is over (µs)
--
-- The limit key of a task is in :try, in every state of the task: behind its fence, or ALIAS and the key before
-- the first lease. Where a line stands in :turns may be too early: a step looks again, and corrects it.

local with_lines = {}

-- Return whether tasks with limit keys wait. For a queue without any, this is one look for each script.
local function has_lines(queue)
  if with_lines[queue] == nil then
    with_lines[queue] = call('EXISTS', queue .. ':lined') == 1
  end
  return with_lines[queue]
end

-- Return the fence and the limit key of a task from what :try has for it; nil for what there is not.
local function read_try(text)
  local at = text and string.find(text, ALIAS, 1, true)
  if not at then
    return text or nil
  end
  return at > 1 and string.sub(text, 1, at - 1) or nil, string.sub(text, at + 1)
end

-- Return what :try has for a task with a fence, and maybe a limit key.
local function written_try(fence, limit_key)
  return limit_key and fence .. ALIAS .. limit_key or fence
end

-- Return the score of a task that waits; nil if it does not.
local function waiting_score(queue, key)
  return tonumber(call('ZSCORE', queue .. ':due', key)
    or (has_lines(queue) and call('ZSCORE', queue .. ':lined', key)) or nil)
end

-- Lines.

local function line_of(limit_key, shift)
  return (shift == NORMAL and '0' or digit_of(shift)) .. limit_key
end

local function tasks_of(queue, line)
  return queue .. ':line' .. ALIAS .. line
end

-- Place a line where its next task is due, or at once; remove it if it has none.
local function place_line(queue, line, shift, now)
  local head = call('ZRANGE', tasks_of(queue, line), 0, 0, 'WITHSCORES')
  if head[2] then
    call('ZADD', queue .. ':turns', whole(math.max(head[2], now - shift)), line)
  else
    call('ZREM', queue .. ':turns', line)
  end
end

-- Return the lines of a limit key to the turns, because one of its leases has ended, or its limit has changed.
local function reopen(queue, limit_key, now)
  for _, shift in ipairs({ HIGH, NORMAL, LOW }) do
    local line = line_of(limit_key, shift)
    local score = tonumber(call('ZSCORE', queue .. ':turns', line) or nil)
    if score and score + shift > now then
      place_line(queue, line, shift, now)
    end
  end
end

-- Tasks.

local function add_waiting(queue, key, score, now, limit_key)
  if not limit_key then
    call('ZADD', queue .. ':due', score, key)
    return
  end
  local shift = shift_of(tonumber(score))
  local line = line_of(limit_key, shift)
  call('ZADD', queue .. ':lined', score, key)
  call('ZADD', tasks_of(queue, line), score, key)
  call('ZADD', queue .. ':turns', 'LT', whole(math.max(score, now - shift)), line)
  with_lines[queue] = true
end

-- Remove a task from those that wait; return 0 if it does not wait.
local function remove_waiting(queue, key, now)
  local score = has_lines(queue) and tonumber(call('ZSCORE', queue .. ':lined', key) or nil)
  if not score then
    return call('ZREM', queue .. ':due', key)
  end
  local _, limit_key = read_try(call('HGET', queue .. ':try', key))
  local shift = shift_of(score)
  local line = line_of(limit_key or '', shift)
  call('ZREM', queue .. ':lined', key)
  call('ZREM', tasks_of(queue, line), key)
  local head = call('ZRANGE', tasks_of(queue, line), 0, 0, 'WITHSCORES')
  if not head[2] then
    call('ZREM', queue .. ':turns', line)
  elseif head[2] + shift > now then
    call('ZADD', queue .. ':turns', 'GT', whole(head[2]), line)
  end
  return 1
end

-- Return when the next task of a queue may begin, apart from its limit; nil if no time is known. If *now* is given, it
-- may be that of another one that may begin by then.
local function next_due(queue, now)
  local turn = has_lines(queue) and first_of(queue .. ':turns') or math.huge
  if now and turn <= now then
    return turn
  end
  local due = math.min(first_of(queue .. ':due') or math.huge, turn)
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

-- Record that leases of tasks with limit keys have ended; *limit_keys* may have gaps.
local function end_leases(queue, limit_keys, now)
  if not next(limit_keys) or not has_key_limits(queue) then
    return
  end
  local keys, left, is_shut = {}, {}, {}
  for _, limit_key in pairs(limit_keys) do
    keys[#keys + 1] = limit_key
  end
  local counts = call('HMGET', queue .. ':busy', unpack(keys))
  for i, limit_key in ipairs(keys) do
    local count = tonumber(counts[i] or 0)
    left[limit_key] = (left[limit_key] or math.abs(count)) - 1
    is_shut[limit_key] = count < 0 or nil
  end
  local some, none = {}, {}
  for limit_key, count in pairs(left) do
    if count > 0 then
      some[#some + 1] = limit_key
      some[#some + 1] = whole(count)
    else
      none[#none + 1] = limit_key
    end
  end
  if none[1] then
    call('HDEL', queue .. ':busy', unpack(none))
  end
  if some[1] then
    call('HSET', queue .. ':busy', unpack(some))
  end
  for limit_key in pairs(is_shut) do
    reopen(queue, limit_key, now)
  end
end
