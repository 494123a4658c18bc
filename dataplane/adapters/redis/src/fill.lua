-- Caches the statuses of a node, unless it was invalidated after the store was read.
-- KEYS: the statuses of the node, its number of invalidations. ARGV: that number before the store was read, the statuses, their time to
-- live in seconds.
if (redis.call('GET', KEYS[2]) or '0') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
