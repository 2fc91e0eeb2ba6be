-- Forget a schedule.
--
-- KEYS  as for announce
-- ARGV  its name
-- Returns 1 if there was one, else 0.

local _, _, _, gone = read_schedule(call('HGET', KEYS[1], ARGV[1]))
call('HDEL', KEYS[1], ARGV[1])
return gone and gone > clock() and 1 or 0
