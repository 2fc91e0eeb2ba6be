-- Return how many tasks of a queue wait.
--
-- KEYS  the queue

return call('ZCARD', KEYS[1] .. ':due') + call('ZCARD', KEYS[1] .. ':lined')
