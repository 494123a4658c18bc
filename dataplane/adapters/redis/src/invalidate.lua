-- Drops the counts of sources from the cache. The number of invalidations per bucket makes servers that have read older counts from the
-- store discard them.
-- KEYS: per source, its bucket and the number of invalidations of the bucket. ARGV: a bucket's time to live in seconds, then the sources.
for index = 2, #ARGV do
  local bucket, invalidations = KEYS[2 * index - 3], KEYS[2 * index - 2]
  redis.call('INCRBY', invalidations, 1)
  redis.call('EXPIRE', invalidations, ARGV[1])
  redis.call('HDEL', bucket, ARGV[index])
end
return 1
