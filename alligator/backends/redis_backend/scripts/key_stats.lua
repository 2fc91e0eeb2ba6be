-- Return what is known of the limit keys of queues.
--
-- KEYS  the queues
-- ARGV  up to how many keys are counted, and how many are named
-- Returns for each queue how many keys have ready tasks, how many of them wait for their limit, the first of
--       these, how many limits there are, the first of these: each key and its limit.

local most, most_named, now = tonumber(ARGV[1]), tonumber(ARGV[2]), clock()
local reply = {}

-- Return a set of keys without any, and a function that adds one unless it is full.
local function new_set()
  local known, list = {}, {}
  return list, function(limit_key)
    if not known[limit_key] and #list < most then
      known[limit_key] = true
      list[#list + 1] = limit_key
    end
  end
end

-- Return the lines in a range of :turns.
local function lines_in(queue, from, upto)
  return call('ZRANGEBYSCORE', queue .. ':turns', from, upto, 'LIMIT', 0, most)
end

-- Return whether the first task of a line is due.
local function is_due(queue, line)
  local _, due = head_of(queue, string.sub(line, 2), shift_of_digit(string.sub(line, 1, 1)))
  return due and due <= now
end

-- Return the keys that have ready tasks, and those of them that wait for their limit: their lines have no turn
-- before a lease ends, or none yet, although a task is due.
local function waiting_keys(queue)
  local waiting, add_waiting = new_set()
  local limited, add_limited = new_set()
  local function look_at(from, upto)
    for _, line in ipairs(lines_in(queue, from, upto)) do
      if is_due(queue, line) then
        add_limited(string.sub(line, 2))
      end
    end
  end
  look_at('+inf', '+inf')
  for _, shift in ipairs({ HIGH, NORMAL, LOW }) do
    local from, upto = range_of(shift)
    look_at('(' .. whole(now - shift), upto == '+inf' and '(+inf' or upto)
    for _, line in ipairs(lines_in(queue, from, whole(now - shift))) do
      add_waiting(string.sub(line, 2))
    end
  end
  for _, limit_key in ipairs(limited) do
    add_waiting(limit_key)
  end
  return waiting, limited
end

-- Return the keys that have limits.
local function keys_with_limits(queue)
  local keys, add_key = new_set()
  if call('HEXISTS', queue .. ':klim', '*') == 1 then
    add_key('*')
  end
  local cursor = '0'
  repeat
    local some = call('HSCAN', queue .. ':klim', cursor, 'COUNT', most)
    cursor = some[1]
    for i = 1, #some[2], 2 do
      add_key(some[2][i])
    end
  until cursor == '0' or #keys >= most
  return keys
end

-- Return the first keys, '*' before all others.
local function first_of_keys(keys)
  table.sort(keys, function(a, b)
    return b ~= '*' and (a == '*' or a < b)
  end)
  return { unpack(keys, 1, most_named) }
end

for k, queue in ipairs(KEYS) do
  local waiting, limited = waiting_keys(queue)
  local keys = keys_with_limits(queue)
  local limits = {}
  for i, limit_key in ipairs(first_of_keys(keys)) do
    limits[2 * i - 1] = limit_key
    limits[2 * i] = call('HGET', queue .. ':klim', limit_key)
  end
  reply[k] = { #waiting, #limited, first_of_keys(limited), #keys, limits }
end
return reply
