-- The part that is shared by the scripts that settle tasks; it follows `tasks`.
--
-- A batch is a HASH, ID:batch: how many 'tasks' a commit has queued, how many of them are 'left', how many
-- 'dead' are among the others, the set of all 'queues', and as JSON the 'next': the follow-ups, each with
-- the key of its queue, name of the queue, id, payload, shift of its priority, limit key. When no task is
-- left, there is only ID:batch:queued for some time, for an abort: the queue, id and score of each follow-up,
-- as JSON.

local BATCH_SECONDS = 300  -- as long as the marker of a commit
local counted = {}

-- Queue a follow-up and return its score; nothing if its id waits.
local function queue_follow_up(queues, queue, name, id, payload, shift, limit_key, now)
  if find_waiting(queue, id) then
    return
  end
  if call('HEXISTS', queue .. ':job', id) == 1 then
    move_aside(queue, id)
  end
  local score = whole(now - shift)
  call('HSET', queue .. ':job', id, payload)
  set_limit_key(queue, id, limit_key)
  add_waiting(queue, id, score, now)
  if call('HINCRBY', queue .. ':cnt', 'pushed', 1) == 1 then
    call('SADD', queues, name)
  end
  announce(queue, now, now)
  return score
end

-- Queue the follow-ups of a batch of which no task is left.
local function finish(batch, now)
  local tasks, dead, following, queues =
    unpack(call('HMGET', batch, 'tasks', 'dead', 'next', 'queues'))
  call('DEL', batch)
  local queued = {}
  for _, each in ipairs(cjson.decode(following)) do
    local queue, name, id, payload, shift, limit_key = unpack(each)
    payload = 'batch:' .. tasks .. ',' .. dead .. ' ' .. payload
    local score = queue_follow_up(queues, queue, name, id, payload, shift, limit_key, now)
    if score then
      queued[#queued + 1] = { queue, id, score }
    end
  end
  call('SET', batch .. ':queued', cjson.encode(queued), 'EX', BATCH_SECONDS)
end

-- Count tasks as settled, the first time; *dead* is 1 if they did not succeed, else 0. For a queue without
-- batches, this is one look for each script.
local function settle(queue, keys, dead, now)
  counted[queue] = counted[queue] or call('EXISTS', queue .. ':then')
  if counted[queue] == 0 then
    return
  end
  for _, key in ipairs(keys) do
    local batch = call('HGET', queue .. ':then', key)
    if batch then
      call('HDEL', queue .. ':then', key)
      if call('HEXISTS', batch, 'left') == 1 then  -- it was not aborted
        call('HINCRBY', batch, 'dead', dead)
        if call('HINCRBY', batch, 'left', -1) == 0 then
          finish(batch, now)
        end
      end
    end
  end
end
