-- Marks the cache as suspect, if its generation is still ARGV[1].
local positions, watermark = KEYS[2], KEYS[3]
if redis.call('HGET', positions, 'generation') == ARGV[1] then
  redis.call('HSET', watermark, 'suspect', '1')
end
return 1
