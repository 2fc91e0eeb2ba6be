-- The part of step that picks tasks of a queue with lines, in turns; it follows `lines`.
--
-- A line that has its turn gives one task, and stands behind all others of its priority then. The tasks without a
-- limit key are one line more.

local LOOK_AT_ONCE = 100

-- Limits of keys.

local limits_read = {}

local function limit_from(text)
  if limits_read[text] == nil then
    limits_read[text] = read_limit(text)
  end
  return limits_read[text]
end

-- Return until when the limit of a key lets no task begin, as `limited_until`.
local function closed_until(queue, limit_key, state, now)
  local limit = state.limit
  if limit.at_once > 0 and state.busy >= limit.at_once then
    state.is_shut, state.has_changed = true, true
    return math.huge
  end
  if limit.starts > 0 then
    -- The start that is as many ago as the limit counts, and the one that will be after the next start.
    local last = limit.starts - 1
    local found = call('ZREVRANGE', queue .. ':begun' .. ALIAS .. limit_key, math.max(0, last - 1), last,
      'WITHSCORES')
    local oldest = found[last == 0 and 2 or 4]
    state.next_start = last == 0 and now + limit.span or (found[2] or 0) + limit.span
    state.has_spare = oldest ~= nil
    return oldest and oldest + limit.span > now and oldest + limit.span
  end
  return false
end

-- Return those of some lines whose limit keys let a task begin; the others have a time in `till`.
local function open_lines(queue, picks, lines, now)
  if #lines == 0 or not has_key_limits(queue) then
    return lines
  end
  local names, open = {}, {}
  for i, line in ipairs(lines) do
    names[i] = line.limit_key
  end
  local counts = call('HMGET', queue .. ':busy', unpack(names))
  names[#names + 1] = '*'
  local limits = call('HMGET', queue .. ':klim', unpack(names))
  for i, line in ipairs(lines) do
    local count = tonumber(counts[i] or 0)
    local state = picks.states[line.limit_key] or {
      busy = math.abs(count),
      is_shut = count < 0,
      limit = limit_from(limits[i] or limits[#names] or ''),
    }
    picks.states[line.limit_key], line.state = state, state
    if not (state.limit and state.has_begun) then  -- a step begins one task of a key with a limit
      line.till = state.limit and closed_until(queue, line.limit_key, state, now)
      table.insert(line.till and picks.seen or open, line)
    end
  end
  return open
end

-- Picks.

-- Take the first tasks of a line, and their scores.
local function pop(queue, line, most)
  local tasks
  if line.plain then
    tasks = { unpack(line.plain, line.taken + 1, line.taken + 2 * most) }
    line.taken = line.taken + 2 * most
  else
    tasks = call('ZPOPMIN', tasks_of(queue, line.name), most)
  end
  line.is_empty = #tasks < 2 * most
  return tasks
end

-- Return tasks to their line.
local function put_back(queue, line, tasks, from)
  for i = from, line.name and #tasks or 0, 2 do
    call('ZADD', tasks_of(queue, line.name), tasks[i + 1], tasks[i])
    line.is_empty = false
  end
end

-- Pick tasks of some lines, in turns, until there are *most*: one of each, or if no other lines wait for a turn, of
-- each the same share. Return the lines that may have more.
local function pick_of_each(queue, picks, lines, most, is_all, now)
  local left = most - #picks.keys
  local share = is_all and math.max(1, math.floor(left / math.max(1, #lines))) or 1
  local tasks, more = {}, {}
  for i = 1, math.min(left, #lines) do
    local line = lines[i]
    local has_limit = line.state and line.state.limit
    tasks[i] = pop(queue, line, has_limit and 1 or share)
    if not line.is_seen then
      line.is_seen = true
      table.insert(picks.seen, line)
    end
  end
  for at = 1, 2 * share, 2 do
    for i, some in ipairs(tasks) do
      local line, key, score = lines[i], some[at], some[at + 1]
      if key and score + line.shift > now then  -- it is scheduled, and so are those behind it
        put_back(queue, line, some, at)
        tasks[i], line.till = {}, score + line.shift
      elseif key then
        local n = #picks.keys + 1
        picks.keys[n], picks.scores[n], picks.lines[n] = key, score, line
        if line.state then
          line.state.has_begun = true
        end
      end
    end
  end
  for i = 1, #tasks do
    local line = lines[i]
    if not (line.is_empty or line.till or (line.state and line.state.limit)) then
      more[#more + 1] = line
    end
  end
  return more
end

-- Pick tasks of one priority, whose scores begin with *from*, until there are *most* in all.
local function pick_of_priority(queue, picks, most, shift, from, ahead, now)
  local plain = call('ZRANGEBYSCORE', queue .. ':due', from, whole(now - shift), 'WITHSCORES',
    'LIMIT', 0, most - #picks.keys)
  local others, had, with
  if plain[1] then
    others = { plain = plain, taken = 0, shift = shift, digit = line_of('', shift) }
    had = (call('HGET', queue .. ':turn', others.digit) or 0) - shift
    with = 'WITHSCORES'
  end
  local looked, is_all, more = 0, false, {}
  while #picks.keys < most and not is_all and picks.looked < LOOK_AT_ONCE + 2 * most do
    local wanted = math.max(most - #picks.keys, looked > 0 and LOOK_AT_ONCE or 0)
    local found = call('ZRANGEBYSCORE', queue .. ':turns', from, whole(now + ahead - shift),
      'LIMIT', looked, wanted, unpack({ with }))
    local lines = {}
    for i = 1, #found, with and 2 or 1 do
      lines[#lines + 1] = {
        name = found[i],
        limit_key = string.sub(found[i], 2),
        shift = shift,
        place = with and tonumber(found[i + 1]),
      }
    end
    looked, picks.looked, is_all = looked + #lines, picks.looked + #lines, #lines < wanted
    lines = open_lines(queue, picks, lines, now)
    if others then
      local place = 1
      while lines[place] and lines[place].place < had do
        place = place + 1
      end
      if is_all or lines[place] then
        table.insert(lines, place, others)
        others = nil
      end
    end
    for _, line in ipairs(pick_of_each(queue, picks, lines, most, is_all and #more == 0, now)) do
      more[#more + 1] = line
    end
  end
  while #picks.keys < most and #more > 0 do
    more = pick_of_each(queue, picks, more, most, true, now)
  end
end

-- Pick up to *most* tasks of a queue, in turns. They have left their lines; `keep_picks` has to follow.
local function pick_in_turns(queue, most, ahead, now)
  local picks = { keys = {}, scores = {}, lines = {}, seen = {}, states = {}, looked = 0 }
  local has_priorities = call('ZCOUNT', queue .. ':turns', '-inf', '(0') > 0
    or call('ZCOUNT', queue .. ':due', '-inf', '(0') > 0
  for _, shift in ipairs(has_priorities and { HIGH, NORMAL, LOW } or { NORMAL }) do
    if #picks.keys < most then
      pick_of_priority(queue, picks, most, shift, (range_of(shift)), ahead, now)
    end
  end
  return picks
end

-- Record that a task of a key with a number of starts begins; return until when no other one may.
local function begin(queue, limit_key, state, now)
  local limit = state.limit
  if limit.starts > 0 then
    local begun = queue .. ':begun' .. ALIAS .. limit_key
    call('ZADD', begun, whole(now), whole(now))
    if state.has_spare then
      call('ZREMRANGEBYRANK', begun, 0, -1 - limit.starts)
    end
  end
  if limit.at_once > 0 and state.busy >= limit.at_once then
    state.is_shut = true
    return math.huge
  end
  return limit.starts > 0 and state.next_start
end

-- Forget the starts of some keys whose time is over, and remember when that of others will be.
local function fade(queue, ends, now)
  if #ends == 0 then
    return
  end
  local over = call('ZRANGEBYSCORE', queue .. ':fade', '-inf', whole(now), 'LIMIT', 0, #ends)
  if #over > 0 then
    call('ZREM', queue .. ':fade', unpack(over))
    for i, limit_key in ipairs(over) do
      over[i] = queue .. ':begun' .. ALIAS .. limit_key
    end
    call('DEL', unpack(over))
  end
  call('ZADD', queue .. ':fade', 'GT', unpack(ends))
end

-- Give the lines of picks their new places.
local function place_lines(queue, picks, now)
  local places, empty = {}, {}
  for _, line in ipairs(picks.seen) do
    if line.plain then
      if line.turn then
        call('HSET', queue .. ':turn', line.digit, whole(now + line.turn))
      end
    elseif line.is_empty or (line.turn and call('EXISTS', tasks_of(queue, line.name)) == 0) then
      empty[#empty + 1] = line.name
    elseif line.turn or line.till then
      local at = math.max(line.turn and now + line.turn or 0, line.till or 0)
      places[#places + 1] = at == math.huge and '+inf' or whole(at - line.shift)
      places[#places + 1] = line.name
    end
  end
  if #empty > 0 then
    call('ZREM', queue .. ':turns', unpack(empty))
  end
  if #places > 0 then
    call('ZADD', queue .. ':turns', unpack(places))
  end
end

-- Lease the first *count* picks, and return the others to their lines. Return for each that is leased since when it
-- is ready, with its key; the shift of its priority; its limit key, or false.
local function keep_picks(queue, picks, count, now)
  local found, shifts, limit_keys = {}, {}, {}
  local lined, plain, ends, counts = {}, {}, {}, {}
  for i = #picks.keys, count + 1, -1 do
    put_back(queue, picks.lines[i], { picks.keys[i], picks.scores[i] }, 1)
    picks.keys[i] = nil
  end
  for i, key in ipairs(picks.keys) do
    local line = picks.lines[i]
    local state = line.state
    line.turn = i
    found[2 * i - 1], found[2 * i] = key, whole(picks.scores[i] + line.shift)
    shifts[i], limit_keys[i] = line.shift, line.limit_key or false
    table.insert(line.plain and plain or lined, key)
    if state then
      state.busy, state.has_changed = state.busy + 1, true
    end
    if state and state.limit then
      picks.has_limit = true
      line.till = begin(queue, line.limit_key, state, now)
      if state.limit.starts > 0 then
        ends[#ends + 1] = whole(now + state.limit.span)
        ends[#ends + 1] = line.limit_key
      end
    end
  end
  if #lined > 0 then
    call('ZREM', queue .. ':lined', unpack(lined))
  end
  if #plain > 0 then
    call('ZREM', queue .. ':due', unpack(plain))
  end
  place_lines(queue, picks, now)
  fade(queue, ends, now)
  for limit_key, state in pairs(picks.states) do
    if state.has_changed then
      counts[#counts + 1] = limit_key
      counts[#counts + 1] = whole(state.is_shut and -state.busy or state.busy)
    end
  end
  if #counts > 0 then
    call('HSET', queue .. ':busy', unpack(counts))
  end
  return found, shifts, limit_keys
end
