-- Write and remove data with all commands of a push. It fails for every reason for which a push would:
-- a replica, a master without enough replicas, full memory or disk, a slot on another node, an ACL.
--
-- KEYS  a key that nothing else uses

local key = KEYS[1]

for _, words in ipairs({
  { 'SET', key, '' },
  { 'HSET', key, 'id', '' },
  { 'HINCRBY', key, 'pushed', 1 },
  { 'ZADD', key, 1, 'id' },
  { 'SADD', key, 'name' },
  { 'RPUSH', key, '' },
  { 'TIME' },
  { 'GET', key },
  { 'EXISTS', key },
  { 'HGET', key, 'id' },
  { 'HMGET', key, 'id' },
  { 'HEXISTS', key, 'id' },
  { 'HDEL', key, 'id' },
  { 'ZCARD', key },
  { 'ZRANGE', key, 0, 0 },
  { 'ZREVRANGE', key, 0, 0 },
  { 'ZRANGEBYSCORE', key, 0, 0 },
  { 'ZSCORE', key, 'id' },
  { 'ZREM', key, 'id' },
}) do
  call(unpack(words))
  call('DEL', key)
end
