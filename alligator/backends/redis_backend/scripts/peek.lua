-- Look at some tasks of the queue that are not leased.
--
-- KEYS  the queue
-- ARGV  the cursor (0 at first), about how many
-- Returns the next cursor (0 at the end), and for each its key, payload, state.

local queue = KEYS[1]
local now = clock()
local page = call('HSCAN', queue .. ':job', ARGV[1], 'COUNT', ARGV[2])
local found = page[2]
local reply = {page[1]}

for i = 1, #found, 2 do
  local score = waiting_score(queue, found[i])
  local state = score and (score + shift_of(score) > now and 'scheduled' or 'ready')
    or call('ZSCORE', queue .. ':dead', found[i]) and 'dead'
  if state then
    reply[#reply + 1] = found[i]
    reply[#reply + 1] = found[i + 1]
    reply[#reply + 1] = state
  end
end
return reply
