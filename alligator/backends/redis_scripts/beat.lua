-- Note that a worker is alive, and forget those that have been silent for too long.
--
-- KEYS  workers: a ZSET name -> when to forget it (µs), a HASH name -> when it was seen (µs) and JSON
-- ARGV  name, JSON, for how long to remember it (µs; 0: not at all)

local forget, said = KEYS[1], KEYS[2]
local name, json, ttl = ARGV[1], ARGV[2], tonumber(ARGV[3])
local now = clock()

for _, silent in ipairs(call('ZRANGEBYSCORE', forget, '-inf', now, 'LIMIT', 0, 100)) do
  call('ZREM', forget, silent)
  call('HDEL', said, silent)
end
call('ZREM', forget, name)
call('HDEL', said, name)
if ttl > 0 then
  call('ZADD', forget, now + ttl, name)
  call('HSET', said, name, string.format('%.0f %s', now, json))
end
