end

local result = push()
local is_queued = result == 1 or type(result) == 'table'

if is_queued and (not before or before == 'aborted') then
  local is_known, place, tasks, at = {}, 0, 0, 4
  for _, each in ipairs(result == 1 and {} or result) do
    is_known[type(each) == 'table' and each[1] or each] = true
  end
  for k = 4, #KEYS do
    for i = 1, tonumber(ARGV[at + 1]) do
      local id = ARGV[at + 3 * i - 1]
      if not is_known[place] and call('HEXISTS', KEYS[k] .. ':job', id) == 1 then  -- not replaced
        tasks = tasks + 1
        call('HSET', KEYS[k] .. ':then', id, batch)
      end
      place = place + 1
    end
    at = at + 2 + 3 * ARGV[at + 1]
  end
  call('HSET', batch, 'tasks', tasks, 'left', tasks, 'dead', 0, 'next', cjson.encode(follow_ups),
    'queues', KEYS[3])
  call('SET', KEYS[1] .. ':batch', batch, 'EX', ARGV[1])
  if tasks == 0 then
    finish(batch, clock())
  end
end
return result
