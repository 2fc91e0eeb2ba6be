-- Undo the push of a commit, or refuse it should it still arrive.
--
-- KEYS  the marker of the commit, then the queues
-- ARGV  seconds to keep the marker; 'whole' to leave all in place once a worker has had one of its
--       tasks, else 'part'; for each queue how many tasks, and their ids
-- Returns 1 if the push stands, else 0.

local marker = KEYS[1]
local found = call('GET', marker)
local arrived = found and found ~= 'aborted'
local added = arrived and found ~= 'done' and cjson.decode(found)

local waiting = {}
local taken = 0
local at = 3

for k = 2, #KEYS do
  local queue = KEYS[k]
  local count = tonumber(ARGV[at])
  waiting[queue] = {}
  for i = at + 1, at + count do
    local id = ARGV[i]
    if arrived and (not added or (added[queue] or {})[id]) then
      -- A task with a fence was given back by a worker: it has been taken, so it stays.
      if call('HEXISTS', queue .. ':try', id) == 0 and call('ZSCORE', queue .. ':due', id) then
        table.insert(waiting[queue], id)
      else
        taken = taken + 1
      end
    end
  end
  at = at + count + 1
end

if taken > 0 and ARGV[2] == 'whole' then
  return 1
end

call('DEL', marker)
call('SET', marker, 'aborted', 'EX', ARGV[1])
for queue, ids in pairs(waiting) do
  for _, id in ipairs(ids) do
    call('ZREM', queue .. ':due', id)
    call('HDEL', queue .. ':job', id)
  end
  add(queue, 'pushed', -#ids)
end
return 0
