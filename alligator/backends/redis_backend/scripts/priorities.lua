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

local function shift_of_digit(digit)
  return digit == '1' and HIGH or (digit == '2' and LOW or NORMAL)
end

-- Return the shift of the priority that a fence records, and its digit.
local function priority_in(fence)
  if #fence == 37 or #fence == 53 then
    local digit = string.sub(fence, -1)
    return shift_of_digit(digit), digit
  end
  return NORMAL, ''
end
