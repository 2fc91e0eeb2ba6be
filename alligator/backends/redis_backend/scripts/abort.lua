-- Undo the push of a commit, or refuse it if it arrives later.
--
-- KEYS  the marker of the commit, then the queues of its tasks without the follow-ups
-- ARGV  seconds to keep the marker; 'whole' to keep all tasks if a worker has had one of them, 'part' to
--       keep those that a worker has had, 'half' the same for a push that failed in the middle; for
--       each queue how many tasks, and their ids
-- Returns 1 if the push stays, else 0.

local marker, now = KEYS[1], clock()
local found = call('GET', marker)
local arrived = found and found ~= 'aborted'
-- As push writes it; an older Alligator wrote 'done', or JSON with true in place of the times.
local came, count = string.match(found or '', '^(%d+) (%d+)$')
local added = arrived and string.sub(found, 1, 1) == '{' and cjson.decode(found)

-- Return whether a task is the one that the push has added, and no worker has had it: a task that was
-- leased has a fence, and a task of a later push is due at another time.
local function is_of_push(queue, id, due)
  if came then
    return due > tonumber(came) and due <= came + count
  end
  return not added or added[queue][id] == true or tonumber(added[queue][id]) == due
end

local function is_untouched(queue, id)
  local due = waiting_score(queue, id)
  return due and call('HEXISTS', queue .. ':try', id) == 0 and is_of_push(queue, id, due)
end

-- Return whether a task of the push was replaced by one of a later push.
local function was_replaced(queue, id)
  local due = tonumber(call('GET', queue .. ':aside' .. ALIAS .. id) or nil)
  return due and is_of_push(queue, id, due)
end

-- Put the task back that another one had replaced, which was due then and is removed.
local function restore(queue, by, due)
  while true do
    local found = call('GET', queue .. ':old' .. ALIAS .. by)
    local score, id, payload, due_before, unique, limit_key = unpack(cjson.decode(found or '[]'))
    if tonumber(score or nil) ~= due then
      return
    end
    call('DEL', queue .. ':old' .. ALIAS .. by)
    local aside = queue .. ':aside' .. ALIAS .. id
    if call('GET', aside) ~= 'aborted' then
      call('DEL', aside)
      if not find_waiting(queue, id) then
        if call('HEXISTS', queue .. ':job', id) == 1 then
          move_aside(queue, id)
        end
        call('HSET', queue .. ':job', id, payload)
        set_limit_key(queue, id, limit_key)
        add_waiting(queue, id, due_before, now)
        call('HSET', queue .. ':uniq', unique, id)
        call('HSET', queue .. ':own', id, 's 0 ' .. unique)
        add(queue, 'canceled', -1)
        wake(queue)
      end
      return
    end
    by, due = id, tonumber(due_before)
  end
end

-- Return whether a task has a payload but is in no sorted set: its push failed in the middle.
local function is_orphan(queue, id)
  for _, state in ipairs({ ':due', ':lined', ':run', ':dead' }) do
    if call('ZSCORE', queue .. state, id) then
      return false
    end
  end
  return true
end

local waiting, replaced = {}, {}
local taken = 0
local at = 3

for k = 2, #KEYS do
  local queue = KEYS[k]
  local count = tonumber(ARGV[at])
  local seen = {}
  waiting[queue] = {}
  for i = at + 1, at + count do
    local id = ARGV[i]
    if arrived and not seen[id] and (not added or (added[queue] or {})[id]) then
      if is_untouched(queue, id) then
        table.insert(waiting[queue], id)
      elseif was_replaced(queue, id) then
        replaced[#replaced + 1] = { queue, id }
      elseif ARGV[2] == 'half' and is_orphan(queue, id) then
        call('HDEL', queue .. ':job', id)
        drop_limit_keys(queue, { id })
        update_keys(queue, { id }, 'gone')
      else
        taken = taken + 1
      end
    end
    seen[id] = true
  end
  at = at + count + 1
end

-- Of a commit with follow-ups: those that were queued, because all its tasks are settled.
local batch = call('GET', marker .. ':batch')
for _, each in ipairs(cjson.decode(batch and call('GET', batch .. ':queued') or '[]')) do
  local queue, id, score = unpack(each)
  if waiting_score(queue, id) == tonumber(score) and call('HEXISTS', queue .. ':try', id) == 0 then
    waiting[queue] = waiting[queue] or {}
    table.insert(waiting[queue], id)
  else
    taken = taken + 1
  end
end

if taken > 0 and ARGV[2] == 'whole' then
  return 1
end

call('DEL', marker)
call('SET', marker, 'aborted', 'EX', ARGV[1])
if batch then
  call('DEL', batch, batch .. ':queued', marker .. ':batch')
end
for _, each in ipairs(replaced) do
  local queue, id = unpack(each)
  call('SET', queue .. ':aside' .. ALIAS .. id, 'aborted', 'EX', ARGV[1])
  add(queue, 'pushed', -1)
  add(queue, 'canceled', -1)
end
for queue, ids in pairs(waiting) do
  -- The last one first: it may have the id of a task that another one of them has replaced.
  for i = #ids, 1, -1 do
    local id = ids[i]
    local due = waiting_score(queue, id)
    remove_waiting(queue, id, now)
    update_keys(queue, { id }, 'gone')
    call('HDEL', queue .. ':job', id)
    call('HDEL', queue .. ':then', id)
    drop_limit_keys(queue, { id })
    restore(queue, id, due)
  end
  add(queue, 'pushed', -#ids)
end
return 0
