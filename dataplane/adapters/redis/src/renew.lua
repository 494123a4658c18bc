-- Renews the leases of partitions, advances the watermark of the cached statuses, and opens the cache while all leases are in force. Does so
-- only in the epoch that the caller knows: in an earlier one, the cache went back.
-- KEYS: the epoch, the epoch in which the cache may be used, the leases, the times per partition, the lowest of these times.
-- ARGV: the epoch, how long a lease lasts in milliseconds, the time from which on, the watermark, and the number of partitions of the topic,
-- the last three 0 if there is none; then per partition: its number, and until when the caller has renewed its lease.
-- The leases are a hash: until when each partition is leased, and as closed:OWNER until when an owner has closed the cache.
-- Returns the time in milliseconds, 0 if the cache has lost something, or a later epoch as a negative number.
local epoch_key, open_key, leases_key, times_key, lowest_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local known, lasts, from, as_of, partitions = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local epoch = redis.call('GET', epoch_key)
local is_complete = epoch and tonumber(epoch) >= known
for index = 6, #ARGV, 2 do
  if tonumber(redis.call('HGET', leases_key, ARGV[index]) or '0') < tonumber(ARGV[index + 1]) then is_complete = false end
end
if not is_complete then
  redis.call('DEL', open_key)
  return 0
end
if tonumber(epoch) > known then return '-' .. epoch end

for index = 6, #ARGV, 2 do
  local partition = ARGV[index]
  local leased_until = from + lasts
  if from > 0 and tonumber(redis.call('HGET', leases_key, partition) or '0') < leased_until then
    redis.call('HSET', leases_key, partition, string.format('%.0f', leased_until))
  end
  local current = redis.call('HGET', times_key, partition)
  if as_of ~= '0' and (not current or tonumber(current) < tonumber(as_of)) then
    redis.call('HSET', times_key, partition, as_of)
  end
end

local closed = {}
for _, field in ipairs(redis.call('HKEYS', leases_key)) do
  if string.sub(field, 1, 7) == 'closed:' then closed[#closed + 1] = field end
end
local is_closed = false
for _, field in ipairs(closed) do
  if tonumber(redis.call('HGET', leases_key, field)) > now then
    is_closed = true
  else
    redis.call('HDEL', leases_key, field)
  end
end

local lowest, leased_until
for partition = 0, partitions - 1 do
  local current = redis.call('HGET', times_key, tostring(partition))
  if not current then return string.format('%.0f', now) end -- there is no watermark without this partition's
  if not lowest or tonumber(current) < tonumber(lowest) then lowest = current end
  local lease = tonumber(redis.call('HGET', leases_key, tostring(partition)) or '0')
  if not leased_until or lease < leased_until then leased_until = lease end
end
if lowest then
  redis.call('SET', lowest_key, lowest)
  if leased_until > now and not is_closed then
    redis.call('SET', open_key, epoch, 'PX', string.format('%.0f', leased_until - now))
  end
end
return string.format('%.0f', now)
