-- The beginning of the script that queues a commit with follow-ups: `push` follows, then `follow`.
--
-- KEYS  the batch, the queue of each follow-up; then the keys of push
-- ARGV  how many follow-ups, and for each the name of its queue, id, payload, shift of its priority (1, 0 or
--       -1), limit key ('' for none); then the arguments of push
-- Returns what push returns.

local batch = table.remove(KEYS, 1)
local follow_ups = {}
for i = 1, tonumber(table.remove(ARGV, 1)) do
  local name, id, payload, level, limit_key = unpack(ARGV, 5 * i - 4, 5 * i)
  local shift = level == '1' and HIGH or (level == '-1' and LOW or NORMAL)
  follow_ups[i] = { KEYS[i], name, id, payload, shift, limit_key ~= '' and limit_key or nil }
end
for i = 1, #ARGV do
  KEYS[i], ARGV[i] = KEYS[i + #follow_ups], ARGV[i + 5 * #follow_ups]
end
local before = call('GET', KEYS[1])

local function push()
