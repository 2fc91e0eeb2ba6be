-- Record that a worker is alive, and forget those whose time has passed.
--
-- KEYS  workers: a ZSET name -> when to forget it (µs), a HASH name -> when it was seen (µs) and JSON;
--       a HASH: now -> the last known time of the server's clock (µs), see shift
-- ARGV  name, JSON, for how long to remember it (µs; 0: not at all)
-- Returns nothing; if the clock has been set back since then, that time (µs).

local forget, said, noted = KEYS[1], KEYS[2], KEYS[3]
local DRIFT = 1000000
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

local last = tonumber(call('HGET', noted, 'now') or 0)
if now < last - DRIFT then
  return last
end
call('HSET', noted, 'now', whole(now))
