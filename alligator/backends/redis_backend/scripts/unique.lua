-- The part that is shared by the scripts that end the hold of a unique key; it follows `tasks` or `common`.
--
--   :own   HASH  key of a task -> how it holds its unique key, ticket, unique key
--   :uniq  HASH  unique key -> id of the task that holds it, whatever the time is
--   :cool, ALIAS and a unique key: ticket, id; until it expires, the key is held also by a task that has
--          started or is done
--
--   :old, ALIAS and id   the task that the one of this id has replaced, for an abort: see push and abort
--   :aside, ALIAS and id  the score of a task that was replaced, or 'aborted'
--
-- How: 's' until its first lease, 'd' until it is done, 'c' only for as long as :cool. The ticket, which
-- no other push has, is '0' if there is no :cool.

local owns = {}

-- Record what happens to tasks, with or without unique keys: 'start', 'done', or 'gone' if they are dead
-- or removed. For a queue without keys, this is one look for each script.
local function update_keys(queue, keys, what)
  owns[queue] = owns[queue] or call('EXISTS', queue .. ':own')
  if owns[queue] == 0 then
    return
  end
  for _, key in ipairs(keys) do
    local found = call('HGET', queue .. ':own', key) or ''
    local how, ticket, unique = string.match(found, '^(%a) (%S+) (.*)$')
    if how and (what ~= 'start' or how == 's') then
      if how ~= 'c' then
        call('HDEL', queue .. ':uniq', unique)
      end
      if what == 'start' and ticket ~= '0' then
        call('HSET', queue .. ':own', key, 'c ' .. ticket .. ' ' .. unique)
      else
        call('HDEL', queue .. ':own', key)
      end
      local cool = queue .. ':cool' .. ALIAS .. unique
      if what == 'gone' and string.match(call('GET', cool) or '', '^%S+') == ticket then
        call('DEL', cool)
      end
    end
  end
end
