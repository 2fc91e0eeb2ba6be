-- The part of step that picks tasks of a queue with lines, in turns; it follows `lines`.
--
-- A line that has its turn gives one task, and stands behind all others of its priority then. The tasks without a
-- limit key are one more line, that of an empty key.
--
-- Picks are tables: `keys`, `scores`, `shifts` and `lines` of the tasks; `is_empty` and `till` of lines (the score of
-- :turns until which a line has no turn); `states` of limit keys. A table for each line would cost more than all else.

local LOOK_AT_ONCE, FADE_AT_ONCE = 100, 3

-- Limits of keys.

-- Return until when the limit of a key lets no task begin, as `limited_until`; nil if one may begin now.
local function closed_until(queue, limit_key, state, now)
  local limit = state.limit
  if limit.at_once > 0 and state.busy >= limit.at_once then
    state.is_shut, state.has_changed = true, true
    return math.huge
  end
  if limit.starts > 0 then
    local begun, last = queue .. ':begun' .. ALIAS .. limit_key, limit.starts - 1
    state.starts = call('ZCARD', begun)
    if state.starts >= last then
      -- The start that is as many ago as the limit counts, and the one that will be after the next start.
      local found = call('ZREVRANGE', begun, whole(math.max(0, last - 1)), whole(last), 'WITHSCORES')
      local oldest = found[last == 0 and 2 or 4]
      state.next_start = (found[2] and last > 0 and found[2] or now) + limit.span
      return oldest and oldest + limit.span > now and oldest + limit.span or nil
    end
  end
end

-- Return those of some lines whose limit keys let a task begin.
local function open_lines(queue, picks, lines, shift, now)
  local keys, read, open = {}, {}, {}
  for i, line in ipairs(lines) do
    keys[i] = string.sub(line, 2)
  end
  local counts = call('HMGET', queue .. ':busy', unpack(keys))
  keys[#keys + 1] = '*'
  local limits = call('HMGET', queue .. ':klim', unpack(keys))
  for i, line in ipairs(lines) do
    local limit_key, text = keys[i], keys[i] ~= '' and (limits[i] or limits[#keys]) or ''
    if read[text] == nil then
      read[text] = read_limit(text)
    end
    local state = picks.states[limit_key]
    if not state then
      local count = counts[i] and tonumber(counts[i]) or 0
      state = { limit = read[text], busy = math.abs(count), is_shut = count < 0, had_turn = false }
      picks.states[limit_key] = state
    end
    if not state.limit then
      open[#open + 1] = line
    elseif not state.had_turn then  -- a step begins one task of a key with a limit
      local till = closed_until(queue, limit_key, state, now)
      if till then
        picks.till[line] = till - shift
      else
        open[#open + 1] = line
      end
    end
  end
  return open
end

-- Picks.

local function has_limit(picks, line)
  local state = picks.states[string.sub(line, 2)]
  return state and state.limit
end

-- Take the first tasks of a line, and their scores.
local function pop(queue, picks, line, most)
  local tasks
  if #line == 1 then
    tasks = { unpack(picks.plain, picks.taken + 1, picks.taken + 2 * most) }
    picks.taken = picks.taken + 2 * most
  else
    tasks = call('ZPOPMIN', tasks_of(queue, line), whole(most))
  end
  picks.is_empty[line] = not tasks[2 * most] or nil
  return tasks
end

-- Return tasks to their line.
local function put_back(queue, picks, line, tasks, from)
  if #line > 1 then
    for i = from, #tasks, 2 do
      call('ZADD', tasks_of(queue, line), tasks[i + 1], tasks[i])
      picks.is_empty[line] = nil
    end
  end
end

-- Pick tasks of lines, in turns: one of each, or of each the same *share* if it has no limit.
local function pick_of_each(queue, picks, lines, share, shift, now)
  local keys, scores, tasks = picks.keys, picks.scores, {}
  for i, line in ipairs(lines) do
    tasks[i] = pop(queue, picks, line, share > 1 and has_limit(picks, line) and 1 or share)
  end
  for at = 1, 2 * share, 2 do
    for i, line in ipairs(lines) do
      local key, score = tasks[i][at], tasks[i][at + 1]
      if key and score + shift > now then  -- it is scheduled, and so are those behind it
        put_back(queue, picks, line, tasks[i], at)
        tasks[i], picks.till[line] = {}, score
      elseif key then
        local n = #keys + 1
        keys[n], scores[n], picks.shifts[n], picks.lines[n] = key, score, shift, line
        if next(picks.states) then
          picks.states[string.sub(line, 2)].had_turn = true
        end
      end
    end
  end
end

-- Return lines of :turns with those tasks among them that have no limit key, if their place is there.
local function with_plain(lines, plain_line, had, is_all)
  local names, is_placed = {}, false
  for i = 1, #lines, 2 do
    if not is_placed and had <= tonumber(lines[i + 1]) then
      names[#names + 1], is_placed = plain_line, true
    end
    names[#names + 1] = lines[i]
  end
  if is_all and not is_placed then
    names[#names + 1], is_placed = plain_line, true
  end
  return names, is_placed
end

-- Pick tasks of one priority, whose scores begin with *from*, until there are *most* in all; return false if there are
-- scores of other priorities among them, and pick none then.
local function pick_of_priority(queue, picks, most, shift, from, ahead, now)
  local keys, plain_line = picks.keys, line_of('', shift)
  picks.taken = 0
  picks.plain = call('ZRANGEBYSCORE', queue .. ':due', from, whole(now - shift), 'WITHSCORES',
    'LIMIT', '0', whole(most - #keys))
  local had = picks.plain[1] and (call('HGET', queue .. ':turn', plain_line) or 0) - shift

  -- Let lines have turns until there are enough tasks: one each, or if these are all lines, the same share.
  local function pick(lines, is_all)
    local first = 1
    while #keys < most and lines[first] do
      local left = most - #keys
      local some = #lines > left and { unpack(lines, first, math.min(#lines, first + left - 1)) } or lines
      pick_of_each(queue, picks, some, is_all and math.max(1, math.floor(left / #lines)) or 1, shift, now)
      first = first + #some
    end
  end

  local seen, looked, is_all = {}, 0, false
  while #keys < most and not is_all and picks.looked < LOOK_AT_ONCE + 2 * most do
    local wanted = math.max(most - #keys, looked > 0 and LOOK_AT_ONCE or 0)
    local words = { from, whole(now + ahead - shift), 'LIMIT', whole(looked), whole(wanted), had and 'WITHSCORES' or nil }
    local lines = call('ZRANGEBYSCORE', queue .. ':turns', unpack(words))
    if looked == 0 and shift == NORMAL and from == '-inf' and
      (tonumber(picks.plain[2] or 0) < 0 or (lines[1] and string.sub(lines[1], 1, 1) ~= '0')) then
      return false
    end
    local count = had and #lines / 2 or #lines
    looked, picks.looked, is_all = looked + count, picks.looked + count, count < wanted
    if had then
      local is_placed
      lines, is_placed = with_plain(lines, plain_line, had, is_all)
      had = not is_placed and had
    end
    if lines[1] and has_key_limits(queue) then
      lines = open_lines(queue, picks, lines, shift, now)
    end
    pick(lines, is_all and not seen[1])
    for i = 1, #keys < most and #lines or 0 do
      seen[#seen + 1] = lines[i]
    end
  end
  while #keys < most and seen[1] do
    local lines = {}
    for _, line in ipairs(seen) do
      if not (picks.is_empty[line] or picks.till[line] or has_limit(picks, line)) then
        lines[#lines + 1] = line
      end
    end
    pick(lines, true)
    seen = lines
  end
  return true
end

-- Pick up to *most* tasks of a queue, in turns. They have left their lines; `keep_picks` has to follow.
local function pick_in_turns(queue, most, ahead, now)
  local picks = { keys = {}, scores = {}, shifts = {}, lines = {}, is_empty = {}, till = {}, states = {}, looked = 0 }
  if not pick_of_priority(queue, picks, most, NORMAL, '-inf', ahead, now) then
    for _, shift in ipairs({ HIGH, NORMAL, LOW }) do
      if #picks.keys < most then
        pick_of_priority(queue, picks, most, shift, (range_of(shift)), ahead, now)
      end
    end
  end
  return picks
end

-- Count the lease of a task of a line; if its key has a limit, record its start, and put the line off.
local function begin(queue, picks, line, shift, ends, now)
  local limit_key = string.sub(line, 2)
  local state = picks.states[limit_key]
  local limit, till = state.limit, nil
  state.busy, state.has_changed = state.busy + 1, true
  if not limit then
    return
  end
  picks.has_limit = true
  if limit.starts > 0 then
    local begun, stamp = queue .. ':begun' .. ALIAS .. limit_key, whole(now)
    call('ZADD', begun, stamp, stamp)
    if state.starts >= limit.starts then
      call('ZREMRANGEBYRANK', begun, 0, -1 - limit.starts)
    end
    limit.ends = limit.ends or whole(now + limit.span)
    ends[#ends + 1], ends[#ends + 2] = limit.ends, limit_key
    ends.most = (ends.most or 0) + (state.starts == 0 and FADE_AT_ONCE or 0)
    till = state.next_start
  end
  if limit.at_once > 0 and state.busy >= limit.at_once then
    till, state.is_shut = math.huge, true
  end
  picks.till[line] = till and till - shift
end

-- Remember when the starts of some keys will be over. For each key without earlier ones, forget those of some others
-- whose time is over.
local function fade(queue, ends, now)
  call('ZADD', queue .. ':fade', 'GT', unpack(ends))
  local over = ends.most > 0
    and call('ZRANGEBYSCORE', queue .. ':fade', '-inf', whole(now), 'LIMIT', 0, ends.most) or {}
  if over[1] then
    call('ZREM', queue .. ':fade', unpack(over))
    for i, limit_key in ipairs(over) do
      over[i] = queue .. ':begun' .. ALIAS .. limit_key
    end
    call('DEL', unpack(over))
  end
end

-- Give new places to the lines that had a turn, each the last one of its turns, and to those that could not.
local function place_lines(queue, picks, turns, now)
  local places, empty = {}, {}
  local function place(line, score)
    places[#places + 1] = score == math.huge and '+inf' or whole(score)
    places[#places + 1] = line
  end
  for i, line in ipairs(picks.lines) do
    if turns[line] == i then
      local score, till = now + i - picks.shifts[i], picks.till[line]
      if #line == 1 then
        call('HSET', queue .. ':turn', line, whole(now + i))
      elseif picks.is_empty[line] or call('EXISTS', tasks_of(queue, line)) == 0 then
        picks.is_empty[line] = true
      else
        place(line, till and math.max(till, score) or score)
      end
    end
  end
  for line, score in pairs(picks.till) do
    if not turns[line] then
      place(line, tonumber(score))
    end
  end
  for line in pairs(picks.is_empty) do
    if #line > 1 then
      empty[#empty + 1] = line
    end
  end
  if empty[1] then
    call('ZREM', queue .. ':turns', unpack(empty))
  end
  if places[1] then
    call('ZADD', queue .. ':turns', unpack(places))
  end
end

-- Lease the first *count* picks, and return the others to their lines. Return for each that is leased its key and
-- since when it is ready, and its limit key, or false.
local function keep_picks(queue, picks, count, now)
  local keys, scores, shifts, lines = picks.keys, picks.scores, picks.shifts, picks.lines
  local found, limit_keys, turns, lined, plain, ends = {}, {}, {}, {}, {}, {}
  for i = #keys, count + 1, -1 do
    put_back(queue, picks, lines[i], { keys[i], scores[i] }, 1)
    keys[i], shifts[i], lines[i] = nil, nil, nil
  end
  for i = 1, count do
    local key, shift, line = keys[i], shifts[i], lines[i]
    turns[line] = i
    found[2 * i - 1], found[2 * i] = key, shift == NORMAL and scores[i] or whole(scores[i] + shift)
    if #line == 1 then
      plain[#plain + 1], limit_keys[i] = key, false
    else
      lined[#lined + 1], limit_keys[i] = key, string.sub(line, 2)
    end
    if picks.states[limit_keys[i]] then
      begin(queue, picks, line, shift, ends, now)
    end
  end
  if lined[1] then
    call('ZREM', queue .. ':lined', unpack(lined))
  end
  if plain[1] then
    call('ZREM', queue .. ':due', unpack(plain))
  end
  place_lines(queue, picks, turns, now)
  if ends[1] then
    fade(queue, ends, now)
  end
  local counts = {}
  for limit_key, state in pairs(picks.states) do
    if state.has_changed then
      counts[#counts + 1] = limit_key
      counts[#counts + 1] = whole(state.is_shut and -state.busy or state.busy)
    end
  end
  if counts[1] then
    call('HSET', queue .. ':busy', unpack(counts))
  end
  return found, limit_keys
end
