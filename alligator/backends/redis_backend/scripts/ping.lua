-- Write and remove data with the commands of a push. It fails for every reason for which a push would:
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
}) do
  call(unpack(words))
  call('DEL', key)
end
