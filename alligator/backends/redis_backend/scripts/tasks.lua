-- The part that is shared by the scripts that find tasks by ids and leases; it precedes each of them.

-- Fences.

-- Return a current fence for one that may be missing or old; *stamp* is the time in digits.
local function modern(fence, stamp)
  if not fence then
    return stamp
  elseif #fence >= 16 then
    return fence
  end
  local lost = math.floor(fence / LOST)
  return stamp .. stamp .. string.format('%03d', math.min(lost, 999)) .. (lost > 0 and 2 or 0)
end

local function lost_of(fence)
  return tonumber(string.sub(fence, 33, 35)) or 0
end

local function marks_of(fence)
  return tonumber(string.sub(fence, 36, 36)) or 0
end

local function fence_of(fence, stamp, lost, marks)
  return string.sub(fence, 1, 16) .. stamp .. string.format('%03d', math.min(lost, 999)) .. marks
end

-- Keys of tasks.

-- Return the key and the current fence of the task of a lease, in any state.
local function find(queue, id, fence)
  local generation = string.sub(fence, 1, 16)
  local alias = id .. ALIAS .. generation
  for _, key in ipairs({ id, alias }) do
    local known = call('HGET', queue .. ':try', key)
    if known and string.sub(known, 1, 16) == generation then
      return key, known
    end
  end
end

-- Return the keys that tasks of an id may have, the newest first.
local function keys_of(queue, id)
  local keys = { id }
  for generation in string.gmatch(call('HGET', queue .. ':alt', id) or '', '%d+') do
    table.insert(keys, 2, id .. ALIAS .. generation)
  end
  return keys
end

-- Return the key of the newest waiting task of an id, and its score.
local function find_waiting(queue, id)
  for _, key in ipairs(keys_of(queue, id)) do
    local score = waiting_score(queue, key)
    if score then
      return key, score
    end
  end
end

-- Return the key of the task of an id that died last.
local function find_dead(queue, id)
  local latest, found = -1, nil
  for _, key in ipairs(keys_of(queue, id)) do
    local died = tonumber(call('ZSCORE', queue .. ':dead', key) or -1)
    if died > latest then
      latest, found = died, key
    end
  end
  return found
end

-- Move a leased or dead task to an alias, because a newer one takes its id.
local function move_aside(queue, id)
  local fence = modern(call('HGET', queue .. ':try', id), whole(clock()))
  local generation = string.sub(fence, 1, 16)
  local alias = id .. ALIAS .. generation
  for _, state in ipairs({ ':run', ':dead' }) do
    local score = call('ZSCORE', queue .. state, id)
    if score then
      call('ZREM', queue .. state, id)
      call('ZADD', queue .. state, score, alias)
      call('HSET', queue .. ':job', alias, call('HGET', queue .. ':job', id))
      call('HSET', queue .. ':try', alias, fence)
      local why = call('HGET', queue .. ':why', id)
      if why then
        call('HSET', queue .. ':why', alias, why)
      end
      for _, kept in ipairs({ ':own', ':then', ':key' }) do
        local found = call('HGET', queue .. kept, id)
        if found then
          call('HDEL', queue .. kept, id)
          call('HSET', queue .. kept, alias, found)
        end
      end
      local others = call('HGET', queue .. ':alt', id)
      call('HSET', queue .. ':alt', id, others and others .. ' ' .. generation or generation)
    end
  end
  call('HDEL', queue .. ':try', id)
  call('HDEL', queue .. ':why', id)
  drop_limit_keys(queue, { id })
end

-- Remove the generation of a deleted task; only an alias has one.
local function forget_alias(queue, key)
  local id, generation = string.match(key, '^(.*)' .. ALIAS .. '(%d+)$')
  if not id then
    return
  end
  local others = {}
  for other in string.gmatch(call('HGET', queue .. ':alt', id) or '', '%d+') do
    if other ~= generation then
      others[#others + 1] = other
    end
  end
  if #others > 0 then
    call('HSET', queue .. ':alt', id, table.concat(others, ' '))
  else
    call('HDEL', queue .. ':alt', id)
  end
end

-- Delete the data of a task that has left the sorted sets.
local function forget(queue, key)
  call('HDEL', queue .. ':job', key)
  call('HDEL', queue .. ':try', key)
  call('HDEL', queue .. ':why', key)
  drop_limit_keys(queue, { key })
  forget_alias(queue, key)
end
