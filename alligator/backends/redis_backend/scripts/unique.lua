-- The part that is shared by the scripts that give and free unique keys; it follows `tasks` or `common`.
--
--   :own   HASH  key of a task -> how it holds its unique key, ticket, unique key
--   :uniq  HASH  unique key -> id of the task that holds it, whatever the time is
--   :cool, ALIAS and a unique key: ticket, id; until it expires, the key is held also by a task that has
--          started or is done
--
-- How: 's' until its first lease, 'd' until it is done, 'c' only for as long as :cool. The ticket, which
-- no other push has, is '0' if there is no :cool.

local owns = {}

-- Return whether tasks of the queue have unique keys: one look for each script.
local function has_keys(queue)
  if owns[queue] == nil then
    owns[queue] = call('EXISTS', queue .. ':own') == 1
  end
  return owns[queue]
end

-- Return how a task holds its unique key, its ticket, and the unique key; nothing if it has none.
local function own(queue, key)
  local found = call('HGET', queue .. ':own', key)
  if found then
    return string.match(found, '^(%a) (%S+) (.*)$')
  end
end

-- The task was leased.
local function start_keys(queue, keys)
  for _, key in ipairs(has_keys(queue) and keys or {}) do
    local how, ticket, unique = own(queue, key)
    if how == 's' then
      call('HDEL', queue .. ':uniq', unique)
      if ticket == '0' then
        call('HDEL', queue .. ':own', key)
      else
        call('HSET', queue .. ':own', key, 'c ' .. ticket .. ' ' .. unique)
      end
    end
  end
end

-- The tasks are done.
local function finish_keys(queue, keys)
  for _, key in ipairs(has_keys(queue) and keys or {}) do
    local how, _, unique = own(queue, key)
    if how then
      call('HDEL', queue .. ':own', key)
      if how ~= 'c' then
        call('HDEL', queue .. ':uniq', unique)
      end
    end
  end
end

-- The task is dead or was removed.
local function free_key(queue, key)
  local how, ticket, unique
  if has_keys(queue) then
    how, ticket, unique = own(queue, key)
  end
  if how then
    call('HDEL', queue .. ':own', key)
    if how ~= 'c' then
      call('HDEL', queue .. ':uniq', unique)
    end
    local cool = queue .. ':cool' .. ALIAS .. unique
    if ticket ~= '0' and string.match(call('GET', cool) or '', '^%S+') == ticket then
      call('DEL', cool)
    end
  end
end
