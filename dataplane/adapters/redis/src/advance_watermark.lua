-- Advances the watermark of the cached statuses: every event acknowledged before a partition's time is included. Times never decrease.
-- KEYS: the hash of times per partition, the key of the lowest time.
-- ARGV: the time, the number of partitions of the topic, then the partitions that it applies to.
local times, lowest, as_of, partitions = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[2])
for index = 3, #ARGV do
  local current = redis.call('HGET', times, ARGV[index])
  if not current or tonumber(current) < tonumber(as_of) then
    redis.call('HSET', times, ARGV[index], as_of)
  end
end
local minimum
for partition = 0, partitions - 1 do
  local time = redis.call('HGET', times, tostring(partition))
  if not time then
    return 0 -- this partition has no time yet, so there is no watermark
  end
  if not minimum or tonumber(time) < tonumber(minimum) then
    minimum = time
  end
end
if minimum then
  redis.call('SET', lowest, minimum)
end
return 1
