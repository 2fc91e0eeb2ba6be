-- The part that is shared by the scripts that count tasks; it follows `priorities`.

-- Return how many tasks of a sorted set of tasks that wait are ready.
local function count_due(zset, now)
  local ready = call('ZCOUNT', zset, '0', whole(now))
  if (lowest(zset) or 0) < 0 then
    for _, shift in ipairs({ HIGH, LOW }) do
      ready = ready + call('ZCOUNT', zset, (range_of(shift)), whole(now - shift))
    end
  end
  return ready
end

-- Return how many tasks of a queue are ready, how many wait, and when the first was or is due (nil: none waits).
local function count_waiting(queue, now)
  local due, lined = queue .. ':due', queue .. ':lined'
  local ready, waiting, first = count_due(due, now), call('ZCARD', due), first_of(due)
  local others = call('ZCARD', lined)
  if others > 0 then
    ready, waiting = ready + count_due(lined, now), waiting + others
    first = math.min(first or math.huge, first_of(lined))
  end
  return ready, waiting, first
end
