-- Records that an audit at time ARGV[2] found the cache equal to the store, if its generation is still ARGV[1].
local positions, watermark = KEYS[2], KEYS[3]
if redis.call('HGET', positions, 'generation') == ARGV[1] then
  redis.call('HSET', watermark, 'last_audit', ARGV[2])
end
return 1
