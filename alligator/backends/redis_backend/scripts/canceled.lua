-- Return the leases that were canceled lately: see cancel.lua.
--
-- KEYS  the canceled leases
-- ARGV  for how long they are remembered (µs)

return call('ZRANGEBYSCORE', KEYS[1], clock() - ARGV[1], '+inf')
