-- Undo the push of a commit, or refuse it should it still arrive.
--
-- KEYS  the marker of the commit, then the queues
-- ARGV  seconds to keep the marker; for each queue how many tasks, and their ids

local marker = KEYS[1]
local found = call('GET', marker)

call('DEL', marker)
call('SET', marker, 'aborted', 'EX', ARGV[1])
if not found or found == 'aborted' then
  return
end

local added = found ~= 'done' and cjson.decode(found)
local at = 2

for k = 2, #KEYS do
  local queue = KEYS[k]
  local count = tonumber(ARGV[at])
  local removed = 0
  for i = at + 1, at + count do
    local id = ARGV[i]
    local ours = not added or (added[queue] or {})[id]
    -- A task with a fence was given back by a worker: it has been taken, so it stays.
    if ours and call('HEXISTS', queue .. ':try', id) == 0 and call('ZREM', queue .. ':due', id) == 1 then
      call('HDEL', queue .. ':job', id)
      removed = removed + 1
    end
  end
  add(queue, 'pushed', -removed)
  at = at + count + 1
end
