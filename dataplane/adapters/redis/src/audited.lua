-- Remembers when an audit found the filling equal to the store, if it is still that one.
if redis.call('HGET', KEYS[2], 'generation') == ARGV[1] then
  redis.call('HSET', KEYS[3], 'last_audit', ARGV[2])
end
return 1
