-- Drops the statuses of nodes from the cache. The number of invalidations per node makes servers that have read older statuses from the
-- store discard them.
-- KEYS: per node, its statuses and its number of invalidations. ARGV: the time to live of that number in seconds.
for index = 1, #KEYS, 2 do
  redis.call('INCRBY', KEYS[index + 1], 1)
  redis.call('EXPIRE', KEYS[index + 1], ARGV[1])
  redis.call('DEL', KEYS[index])
end
return 1
