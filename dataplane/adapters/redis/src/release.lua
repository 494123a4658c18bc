-- Ends a hold. The number of changes makes servers that read the store before discard what they read.
-- KEYS: the holds of each node. ARGV: the id of the hold, the time to live of the holds in seconds.
for index = 1, #KEYS do
  redis.call('HINCRBY', KEYS[index], 'changes', 1)
  redis.call('EXPIRE', KEYS[index], ARGV[2])
  redis.call('HDEL', KEYS[index], ARGV[1])
end
return 1
