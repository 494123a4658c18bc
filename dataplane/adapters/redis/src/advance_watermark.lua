-- Promises that every event acknowledged before a time is in what is held of statuses. KEYS: the times per partition, the lowest.
-- ARGV: the time, how many partitions there are, then those it is about. A time never falls.
local times, lowest, as_of, partitions = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[2])
for index = 3, #ARGV do
  local held = redis.call('HGET', times, ARGV[index])
  if not held or tonumber(held) < tonumber(as_of) then
    redis.call('HSET', times, ARGV[index], as_of)
  end
end
local all
for partition = 0, partitions - 1 do
  local held = redis.call('HGET', times, tostring(partition))
  if not held then
    return 0
  end
  if not all or tonumber(held) < tonumber(all) then
    all = held
  end
end
if all then
  redis.call('SET', lowest, all)
end
return 1
