-- Merges status counts into the cache. Within an epoch counts never decrease, but a higher number of revoked events makes the negative count
-- obsolete.
-- KEYS: the bucket of the source, and the number of invalidations of the bucket.
-- ARGV: that number before the store was read, the epoch in which it was read, the current minute, the capacity of a bucket, a bucket's
-- time to live in seconds, the source, its negative count, its positive count, 1 if the status is final, and the number of revoked events.
-- A stored value is epoch:minute:negative:positive:final, then :revoked if events are revoked.
local bucket, source, final = KEYS[1], ARGV[6], ARGV[9]
local epoch, minute, capacity, ttl = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local negative, positive, revoked = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[10])
local hour = math.floor(tonumber(minute) / 60)

-- The source may have changed after the store was read.
if (redis.call('GET', KEYS[2]) or '0') ~= ARGV[1] then return 0 end

-- Deletes one of eight random entries of a full bucket. Final entries go last: they rarely change.
local function evict(bucket)
  local fields = redis.call('HRANDFIELD', bucket, -8, 'WITHVALUES')
  local victim = fields[1]
  for index = 1, #fields, 2 do
    if string.match(fields[index + 1], '^%d+:%d+:%d+:%d+:0') then
      victim = fields[index]
      break
    end
  end
  redis.call('HDEL', bucket, victim)
end

local expiry_is_recent = false
local stored = redis.call('HGET', bucket, source)
if stored then
  local stored_epoch, stored_minute, stored_negative, stored_positive, stored_final, stored_revoked =
    string.match(stored, '^(%d+):(%d+):(%d+):(%d+):(%d):?(%d*)$')
  if stored_epoch then
    -- Counts that were read in an earlier epoch may be those of a store that has been restored since.
    if tonumber(stored_epoch) > tonumber(epoch) then return 0 end
    if stored_epoch == epoch then
      positive = math.max(positive, tonumber(stored_positive))
      stored_negative, stored_revoked = tonumber(stored_negative), tonumber(stored_revoked) or 0
      if stored_revoked > revoked or (stored_revoked == revoked and stored_negative > negative) then
        negative, final, revoked = stored_negative, stored_final, stored_revoked
      end
    end
    expiry_is_recent = math.floor(tonumber(stored_minute) / 60) == hour
  end
elseif redis.call('HLEN', bucket) >= capacity then
  evict(bucket)
end
local value = string.format('%s:%s:%.0f:%.0f:%s', epoch, minute, negative, positive, final)
if revoked > 0 then value = string.format('%s:%.0f', value, revoked) end
redis.call('HSET', bucket, source, value)
-- Renewing the expiry once an hour is enough and saves every third command.
if not expiry_is_recent then redis.call('EXPIRE', bucket, ttl) end
return 1
