-- The part of step that picks tasks of a queue with lines, in turns; it follows `lines`.
--
-- A line that has its turn gives one task, and stands behind all others of its priority then. The tasks without a
-- limit key are one more line.

local LOOK_AT_ONCE = 100

-- Return until when the limit of a key lets no task begin, as `limited_until`.
local function closed_until(queue, limit_key, state, now)
  local limit = state.limit
  if limit.at_once > 0 and state.busy >= limit.at_once then
    state.is_shut = true
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
  local names, open = {}, {}
  for i, line in ipairs(lines) do
    names[i] = line.limit_key
  end
  local counts = call('HMGET', queue .. ':busy', unpack(names))
  names[#names + 1] = '*'
  local limits = call('HMGET', queue .. ':klim', unpack(names))
  for i, line in ipairs(lines) do
    local text = limits[i] or limits[#names] or ''
    picks.limits[text] = picks.limits[text] or read_limit(text)
    local state = picks.states[line.limit_key]
    if not state then
      local count = tonumber(counts[i] or 0)
      state = { busy = math.abs(count), is_shut = count < 0, limit = picks.limits[text], next_start = 0 }
      picks.states[line.limit_key] = state
    end
    line.state = state
    if not state.limit then
      open[#open + 1] = line
    elseif not state.has_begun then  -- a step begins one task of a key with a limit
      line.till = closed_until(queue, line.limit_key, state, now)
      if not line.till then
        open[#open + 1] = line
      end
    end
  end
  return open
end

-- Return tasks to their line.
local function put_back(queue, line, tasks, from)
  for i = from, line.name and #tasks or 0, 2 do
    call('ZADD', tasks_of(queue, line.name), tasks[i + 1], tasks[i])
    line.is_empty = false
  end
end

-- Pick up to *most* tasks of some lines, in turns: one of each, or the same *share* of each.
local function pick_of_each(queue, picks, lines, most, share, now)
  local keys, tasks = picks.keys, {}
  for i = 1, math.min(most, #lines) do
    local line = lines[i]
    local count = line.state and line.state.limit and 1 or share
    if line.plain then
      tasks[i] = { unpack(line.plain, line.taken + 1, line.taken + 2 * count) }
      line.taken = line.taken + 2 * count
    else
      tasks[i] = call('ZPOPMIN', tasks_of(queue, line.name), count)
    end
    line.is_empty = #tasks[i] < 2 * count
  end
  for at = 1, 2 * share, 2 do
    for i = 1, #tasks do
      local line, key, score = lines[i], tasks[i][at], tasks[i][at + 1]
      if key and score + line.shift > now then  -- it is scheduled, and so are those behind it
        put_back(queue, line, tasks[i], at)
        tasks[i], line.till = {}, score + line.shift
      elseif key then
        local n = #keys + 1
        keys[n], picks.scores[n], picks.line_of[n] = key, score, line
        if line.state then
          line.state.has_begun = true
        end
      end
    end
  end
end

-- Pick tasks of one priority, whose scores begin with *from*, until there are *most* in all.
local function pick_of_priority(queue, picks, most, shift, from, ahead, now)
  local keys, seen = picks.keys, {}
  local plain = call('ZRANGEBYSCORE', queue .. ':due', from, whole(now - shift), 'WITHSCORES',
    'LIMIT', 0, most - #keys)
  local others, had, with
  if plain[1] then
    others = { plain = plain, taken = 0, shift = shift, digit = line_of('', shift) }
    had = (call('HGET', queue .. ':turn', others.digit) or 0) - shift
    with = 'WITHSCORES'
  end
  local looked, is_all = 0, false
  while #keys < most and not is_all and picks.looked < LOOK_AT_ONCE + 2 * most do
    local wanted = math.max(most - #keys, looked > 0 and LOOK_AT_ONCE or 0)
    local found = call('ZRANGEBYSCORE', queue .. ':turns', from, whole(now + ahead - shift),
      'LIMIT', looked, wanted, unpack({ with }))
    local lines = {}
    for i = 1, #found, with and 2 or 1 do
      local name = found[i]
      lines[#lines + 1] = {
        name = name,
        limit_key = string.sub(name, 2),
        shift = shift,
        place = with and tonumber(found[i + 1]),
        is_empty = false,
        till = false,
        turn = false,
        state = false,
      }
      picks.lines[#picks.lines + 1] = lines[#lines]
    end
    looked, picks.looked, is_all = looked + #lines, picks.looked + #lines, #lines < wanted
    if lines[1] and has_key_limits(queue) then
      lines = open_lines(queue, picks, lines, now)
    end
    if others then
      local place = 1
      while lines[place] and lines[place].place < had do
        place = place + 1
      end
      if is_all or lines[place] then
        table.insert(lines, place, others)
        table.insert(picks.lines, others)
        others = nil
      end
    end
    local left = most - #keys
    local share = is_all and not seen[1] and math.max(1, math.floor(left / #lines)) or 1
    if lines[1] then
      pick_of_each(queue, picks, lines, left, share, now)
      for _, line in ipairs(lines) do
        seen[#seen + 1] = line
      end
    end
  end
  while #keys < most do
    local lines = {}
    for _, line in ipairs(seen) do
      if not (line.is_empty or line.till or (line.state and line.state.limit)) then
        lines[#lines + 1] = line
      end
    end
    if not lines[1] then
      return
    end
    local left = most - #keys
    pick_of_each(queue, picks, lines, left, math.max(1, math.floor(left / #lines)), now)
    seen = lines
  end
end

-- Pick up to *most* tasks of a queue, in turns. They have left their lines; `keep_picks` has to follow.
local function pick_in_turns(queue, most, ahead, now)
  local picks =
    { keys = {}, scores = {}, line_of = {}, lines = {}, states = {}, limits = {}, looked = 0, has_limit = false }
  local has_priorities = call('ZCOUNT', queue .. ':turns', '-inf', '(0') > 0
    or call('ZCOUNT', queue .. ':due', '-inf', '(0') > 0
  for _, shift in ipairs(has_priorities and { HIGH, NORMAL, LOW } or { NORMAL }) do
    if #picks.keys < most then
      pick_of_priority(queue, picks, most, shift, (range_of(shift)), ahead, now)
    end
  end
  return picks
end

-- Record that a task of a key with a limit begins; return until when no other one may.
local function begin(queue, line, state, ends, now)
  local limit = state.limit
  if limit.starts > 0 then
    local begun = queue .. ':begun' .. ALIAS .. line.limit_key
    call('ZADD', begun, whole(now), whole(now))
    if state.has_spare then
      call('ZREMRANGEBYRANK', begun, 0, -1 - limit.starts)
    end
    ends[#ends + 1] = whole(now + limit.span)
    ends[#ends + 1] = line.limit_key
  end
  if limit.at_once > 0 and state.busy >= limit.at_once then
    state.is_shut = true
    return math.huge
  end
  return limit.starts > 0 and state.next_start
end

-- Remember when the starts of some keys will be over, and forget those of others whose time is over.
local function fade(queue, ends, now)
  local over = call('ZRANGEBYSCORE', queue .. ':fade', '-inf', whole(now), 'LIMIT', 0, #ends)
  if over[1] then
    call('ZREM', queue .. ':fade', unpack(over))
    for i, limit_key in ipairs(over) do
      over[i] = queue .. ':begun' .. ALIAS .. limit_key
    end
    call('DEL', unpack(over))
  end
  call('ZADD', queue .. ':fade', 'GT', unpack(ends))
end

-- Give the lines that had a turn their new places, and those that could not.
local function place_lines(queue, lines, now)
  local places, empty = {}, {}
  for _, line in ipairs(lines) do
    local turn = line.turn
    if line.plain then
      if turn then
        call('HSET', queue .. ':turn', line.digit, whole(now + turn))
      end
    elseif line.is_empty or (turn and call('EXISTS', tasks_of(queue, line.name)) == 0) then
      empty[#empty + 1] = line.name
    elseif turn or line.till then
      local at = math.max(turn and now + turn or 0, line.till or 0)
      places[#places + 1] = at == math.huge and '+inf' or whole(at - line.shift)
      places[#places + 1] = line.name
    end
  end
  if empty[1] then
    call('ZREM', queue .. ':turns', unpack(empty))
  end
  if places[1] then
    call('ZADD', queue .. ':turns', unpack(places))
  end
end

-- Lease the first *count* picks, and return the others to their lines. Return for each that is leased since when it
-- is ready, with its key; the shift of its priority; its limit key, or false.
local function keep_picks(queue, picks, count, now)
  local keys, found, shifts, limit_keys = picks.keys, {}, {}, {}
  local lined, plain, ends = {}, {}, {}
  for i = #keys, count + 1, -1 do
    put_back(queue, picks.line_of[i], { keys[i], picks.scores[i] }, 1)
    keys[i] = nil
  end
  for i = 1, count do
    local key, score, line = keys[i], picks.scores[i], picks.line_of[i]
    local shift, state = line.shift, line.state
    line.turn = i
    found[2 * i - 1], found[2 * i] = key, shift == NORMAL and score or whole(score + shift)
    shifts[i], limit_keys[i] = shift, line.limit_key or false
    if line.plain then
      plain[#plain + 1] = key
    else
      lined[#lined + 1] = key
    end
    if state then
      state.busy = state.busy + 1
      if state.limit then
        picks.has_limit = true
        line.till = begin(queue, line, state, ends, now)
      end
    end
  end
  if lined[1] then
    call('ZREM', queue .. ':lined', unpack(lined))
  end
  if plain[1] then
    call('ZREM', queue .. ':due', unpack(plain))
  end
  place_lines(queue, picks.lines, now)
  if ends[1] then
    fade(queue, ends, now)
  end
  local counts = {}
  for limit_key, state in pairs(picks.states) do
    if state.has_begun or state.is_shut then
      counts[#counts + 1] = limit_key
      counts[#counts + 1] = whole(state.is_shut and -state.busy or state.busy)
    end
  end
  if counts[1] then
    call('HSET', queue .. ':busy', unpack(counts))
  end
  return found, shifts, limit_keys
end
