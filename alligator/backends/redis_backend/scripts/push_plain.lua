-- The beginning of `push`, for most commits: new tasks of one queue, without options and unique keys. It
-- precedes the parts that `push` shares, because to define their functions takes as long as all of this.
-- Keys, arguments and result are those of `push`, which follows if the commit is another one: until then
-- nothing has changed.

local function push_plain()
  local marker, queue, now = KEYS[1], KEYS[4], clock()
  local ids, payloads, scores, ours = {}, {}, {}, {}
  for i = 1, tonumber(ARGV[5]) do
    local id, payload, delay = unpack(ARGV, 3 * i + 3, 3 * i + 5)
    if delay ~= '0' or ours[id] then
      return false
    end
    ours[id], ids[i] = true, id
    payloads[2 * i - 1], payloads[2 * i] = id, payload
    scores[2 * i - 1], scores[2 * i] = whole(now + i), id
  end
  for _, found in ipairs(call('HMGET', queue .. ':job', unpack(ids))) do
    if found then
      return false
    end
  end
  if call('EXISTS', queue .. ':alt') == 1 or now > tonumber(ARGV[2])
    or not call('SET', marker, whole(now) .. ' ' .. #ids, 'NX', 'EX', ARGV[1]) then
    return false
  end
  if KEYS[2] ~= marker then
    call('DEL', KEYS[2])
  end
  call('HSET', queue .. ':job', unpack(payloads))
  call('ZADD', queue .. ':due', unpack(scores))
  if call('HINCRBY', queue .. ':cnt', 'pushed', #ids) == #ids then
    call('SADD', KEYS[3], ARGV[4])
  end
  wake(queue)
  return true
end

if #KEYS == 4 and push_plain() then
  return 1
end
