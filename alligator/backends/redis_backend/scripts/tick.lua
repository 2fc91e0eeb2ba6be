end

push()
call('DEL', KEYS[1])  -- the marker: the record of the schedule knows the tick
call('HSET', schedules, name, written_schedule(moment, moment, seen, gone, about))
return 1
