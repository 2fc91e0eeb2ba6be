-- Put tasks on their queues: all or none, and once per commit.
--
-- KEYS  the marker of the commit, a marker to delete (or the same again), the set of all queues,
--       then the queues
-- ARGV  seconds to keep the marker; the deadline of the push (µs); 0 if the id was chosen, so that an
--       abort of it is ignored, else 1; for each queue its name, how many tasks, and for each task its
--       id, payload, delay (µs; with a + before it if its priority is high, a - if it is low; with a
--       limit key, ALIAS, 'k', ALIAS and the limit key follow; with a unique key, ALIAS, how it is held, or 'r'
--       to replace the task that holds it, ALIAS, ms to hold it at least, ALIAS and the unique key)
-- Returns 0 if the commit was aborted before, -1 if it arrives after its deadline, else 1, or the
-- positions of its duplicates among its tasks if there are any; the positions of those whose unique key
-- is held are lists, with the id of the task that holds it.
--
-- The marker holds what an abort has to know: when the tasks were pushed (µs) and how many, because
-- those that are ready at once are due within as many microseconds from then on; or, if some are delayed
-- or duplicates, JSON of {queue: {id: when it is due}} for those that were added, and {position: id} of
-- those that hold unique keys, as that of the queue without a name.

local marker = KEYS[1]
local now = clock()

if now > tonumber(ARGV[2]) then
  -- The network or the server hung, and its client has reported a failure.
  return -1
end

-- Return the positions of those that were not added.
local function duplicates(added)
  local places, seen, place = {}, {}, 0
  local holders = added[''] or {}
  local at = 4
  for k = 4, #KEYS do
    local ours = added[KEYS[k]] or {}
    for i = 1, tonumber(ARGV[at + 1]) do
      local id = ARGV[at + 3 * i - 1]
      local holder = holders[whole(place)]
      if holder then
        places[#places + 1] = { place, holder }
      elseif not ours[id] or seen[KEYS[k] .. ' ' .. id] then
        places[#places + 1] = place
      end
      seen[KEYS[k] .. ' ' .. id] = not holder or seen[KEYS[k] .. ' ' .. id]
      place = place + 1
    end
    at = at + 2 + 3 * ARGV[at + 1]
  end
  return #places > 0 and places or 1
end

local span = whole(now) .. ' ' .. (#ARGV - 3 - 2 * (#KEYS - 3)) / 3
if not call('SET', marker, span, 'NX', 'EX', ARGV[1]) then
  local found = call('GET', marker)
  if found ~= 'aborted' then
    return string.sub(found, 1, 1) == '{' and duplicates(cjson.decode(found)) or 1
  elseif ARGV[3] == '1' then
    return 0
  end
  call('SET', marker, span, 'EX', ARGV[1])
end
if KEYS[2] ~= marker then
  call('DEL', KEYS[2])
end

-- Return the id of the task that holds a unique key; nothing if it is free.
local function holder_of(queue, unique)
  local cool = queue .. ':cool' .. ALIAS .. unique
  return call('HGET', queue .. ':uniq', unique)
    or string.match(call('GET', cool) or '', '^%S+ (.*)$')
end

-- Remove the task that holds a unique key only until its start, if it waits, for one that is being queued;
-- return what has to be kept for an abort of the push, nothing if it stays.
local function replace(queue, holder, unique)
  local how, own = string.match(call('HGET', queue .. ':own', holder) or '', '^(%a) %S+ (.*)$')
  local score = waiting_score(queue, holder)
  if how ~= 's' or own ~= unique or not score or call('HEXISTS', queue .. ':try', holder) == 1
    or call('EXISTS', queue .. ':cool' .. ALIAS .. unique) == 1 then
    return
  end
  local payload = call('HGET', queue .. ':job', holder)
  local limit_key = limit_key_of(queue, holder)
  remove_waiting(queue, holder, now)
  call('HDEL', queue .. ':job', holder)
  drop_limit_keys(queue, { holder })
  call('HDEL', queue .. ':own', holder)
  call('HDEL', queue .. ':uniq', unique)
  add(queue, 'canceled', 1)
  settle(queue, { holder }, 1, now)
  return { holder, payload, whole(score), unique, limit_key }
end

-- Give a new task its unique key, which is free.
local function hold_key(queue, id, how, ms, unique, ticket)
  if ms == '0' then
    ticket = '0'
  else
    call('SET', queue .. ':cool' .. ALIAS .. unique, ticket .. ' ' .. id, 'PX', ms)
  end
  call('HSET', queue .. ':uniq', unique, id)
  call('HSET', queue .. ':own', id, how .. ' ' .. ticket .. ' ' .. unique)
end

local added = {}
local holders, before = nil, 0
local is_plain = true
local known = 0
local at = 4

for k = 4, #KEYS do
  local queue = KEYS[k]
  local name, count = ARGV[at], tonumber(ARGV[at + 1])
  local last = at + 1 + 3 * count

  local ids = {}
  for i = 1, count do
    ids[i] = ARGV[at + 3 * i - 1]
  end
  local there = call('HMGET', queue .. ':job', unpack(ids))
  local others = call('EXISTS', queue .. ':alt') == 1 and call('HMGET', queue .. ':alt', unpack(ids))

  -- Those that are ready at once get different times, so that they keep their order: the microseconds
  -- from now on. These have passed when this script ends, because it needs more than one per task.
  local ours, payloads, scores, new, first = {}, {}, {}, 0, math.huge

  local function add_pending()
    if #payloads > 0 then
      call('HSET', queue .. ':job', unpack(payloads))
      if #scores > 0 then
        call('ZADD', queue .. ':due', unpack(scores))
      end
      payloads, scores = {}, {}
    end
  end

  for i, id in ipairs(ids) do
    local is_taken = there[i] or (others and others[i])
    local place = at + 3 * i - 1
    local delay = ARGV[place + 2]
    local limit_key, how, ms, unique
    if delay ~= '0' and not tonumber(delay) then
      local rest
      delay, rest = string.match(delay, '^([+-]?%d+)\031(.*)$')
      if string.sub(rest, 1, 2) == 'k\031' then
        limit_key, rest = string.match(rest, '^k\031([^\031]*)\031?(.*)$')
      end
      how, ms, unique = string.match(rest, '^(%a)\031(%d+)\031(.*)$')
    end
    local is_known = ours[id] or (is_taken and find_waiting(queue, id))
    local holder = unique and not is_known and holder_of(queue, unique)
    local old
    if holder and how == 'r' then
      add_pending()  -- it may be of this push
      old = replace(queue, holder, unique)
    end
    if old then
      holder, how = nil, 's'
    elseif how == 'r' then
      how = 's'
    end
    if holder then
      holders = holders or {}
      holders[whole(before + i - 1)] = holder
    end
    if is_known or holder then
      known = known + 1
    else
      if there[i] then
        move_aside(queue, id)
      end
      if unique then
        hold_key(queue, id, how, ms, unique, whole(now) .. '-' .. before + i)
      end
      local due = now + i
      local score = due
      if delay ~= '0' then
        is_plain = false
        local sign, span = string.match(delay, '^([+-]?)(%d+)$')
        due = span == '0' and due or now + span
        score = due - (sign == '+' and HIGH or (sign == '-' and LOW or NORMAL))
      end
      new = new + 1
      local last = #payloads
      payloads[last + 1], payloads[last + 2] = id, ARGV[place + 1]
      ours[id] = whole(score)
      if limit_key then
        add_pending()
        set_limit_key(queue, id, limit_key)
        add_waiting(queue, id, ours[id], now)
      else
        last = #scores
        scores[last + 1], scores[last + 2] = ours[id], id
      end
      if due < first then
        first = due
      end
      if old then
        call('SET', queue .. ':old' .. ALIAS .. id, cjson.encode({ whole(score), unpack(old) }), 'EX', 300)
        call('SET', queue .. ':aside' .. ALIAS .. old[1], old[3], 'EX', 300)
      end
    end
  end
  at = last + 1
  before = before + count
  added[queue] = ours

  if new > 0 then
    add_pending()
    if call('HINCRBY', queue .. ':cnt', 'pushed', new) == new then
      call('SADD', KEYS[3], name)
    end
    announce(queue, first, now + count)
  end
end

added[''] = holders
if known > 0 or not is_plain then
  call('SET', marker, cjson.encode(added), 'EX', ARGV[1])
end
return known > 0 and duplicates(added) or 1
