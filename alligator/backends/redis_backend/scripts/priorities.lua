-- The part that is shared by the scripts that look at priorities.

local function shift_of(score)
  return score >= 0 and NORMAL or (score < FIRST_LOW and HIGH or LOW)
end

-- Return the limits of the scores of a priority.
local function range_of(shift)
  if shift == NORMAL then
    return '0', '+inf'
  elseif shift == LOW then
    return whole(FIRST_LOW), '(0'
  end
  return '-inf', '(' .. whole(FIRST_LOW)
end

local function digit_of(shift)
  return shift == NORMAL and '' or (shift == HIGH and '1' or '2')
end

-- Return the shift of the priority that a fence records, and its digit.
local function priority_in(fence)
  if #fence == 37 or #fence == 53 then
    local digit = string.sub(fence, -1)
    return digit == '1' and HIGH or LOW, digit
  end
  return NORMAL, ''
end

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
