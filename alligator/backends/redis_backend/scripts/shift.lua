-- Correct the times of a clock that was ahead of the server's: the clock was set back, or a replica whose
-- clock is behind became the master. Otherwise ready tasks would wait, and leases and delays last
-- longer, by the difference of the clocks.
--
-- KEYS  the last known clock, as for beat; workers: a ZSET as for beat; schedules: a HASH as for
--       announce; the queues
-- ARGV  the last known clock that the caller has read (µs): another client may have been faster
-- Returns by how much the clock was set back (µs); 0: not at all.

local noted, workers, schedules = KEYS[1], KEYS[2], KEYS[3]
local now = clock()
local last = tonumber(call('HGET', noted, 'now') or 0)

if last ~= tonumber(ARGV[1]) or last <= now then
  return 0
end

local by = last - now

local function shift(zset)
  local found = call('ZRANGE', zset, 0, -1, 'WITHSCORES')
  for i = 1, #found, 2 do
    if found[i + 1] ~= 'inf' then
      call('ZADD', zset, whole(found[i + 1] - by), found[i])
    end
  end
  return found
end

local function shift_lines(queue)
  local found = shift(queue .. ':lined')
  for i = 1, #found, 2 do
    local limit_key = call('HGET', queue .. ':key', found[i])
    if limit_key then
      call('ZADD', queue .. ':line' .. ALIAS .. limit_key, whole(found[i + 1] - by), found[i])
    end
  end
  shift(queue .. ':turns')
  found = shift(queue .. ':fade')
  for i = 1, #found, 2 do
    shift(queue .. ':begun' .. ALIAS .. found[i])
  end
  for _, digit in ipairs({ '0', '1', '2' }) do
    local had = call('HGET', queue .. ':turn', digit)
    if had then
      call('HSET', queue .. ':turn', digit, whole(had - by))
    end
  end
end

shift(workers)
local known = all_schedules(schedules)
for i = 1, #known, 2 do
  local last, ran, seen, gone, about = read_schedule(known[i + 1])
  if last then
    call('HSET', schedules, known[i], written_schedule(last, ran, seen - by, gone - by, about))
  end
end
for place = 4, #KEYS do
  shift(KEYS[place] .. ':due')
  shift(KEYS[place] .. ':run')
  shift(KEYS[place] .. ':begun')
  shift_lines(KEYS[place])
  local till = tonumber(call('GET', KEYS[place] .. ':off') or 0) or 0
  if till > 0 then
    call('SET', KEYS[place] .. ':off', whole(till - by))
  end
  if next_due(KEYS[place]) then
    wake(KEYS[place])
  end
end
call('HSET', noted, 'now', whole(now), 'back', whole(by), 'at', whole(now))
return by
