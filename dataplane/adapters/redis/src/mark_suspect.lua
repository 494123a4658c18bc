-- Marks the filling as suspect, if it is still that one.
if redis.call('HGET', KEYS[2], 'generation') == ARGV[1] then
  redis.call('HSET', KEYS[3], 'suspect', '1')
end
return 1
