-- Marks the filling as doubtful, if it is still that one.
if redis.call('HGET', KEYS[2], 'generation') == ARGV[1] then
  redis.call('HSET', KEYS[3], 'doubted', '1')
end
return 1
