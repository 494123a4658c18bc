-- Merges status counts into the cache; a count never decreases.
-- KEYS: the epoch, then the bucket of each entry.
-- ARGV: the epoch in which the store was read ('' for the current one), the current minute, the capacity of a bucket, a bucket's
-- time to live in seconds, then per entry: source, negative count, positive count, and 1 if the status is final.
-- A stored value is epoch:minute:negative:positive:final.
local current_epoch = redis.call('GET', KEYS[1]) or '0'
local read_epoch = ARGV[1] ~= '' and ARGV[1] or current_epoch
local minute, capacity, ttl = ARGV[2], tonumber(ARGV[3]), ARGV[4]
local hour = math.floor(tonumber(minute) / 60)

-- Deletes one of eight random entries of a full bucket. Final entries go last: they never need to be
-- read from the store again.
local function evict(bucket)
  local fields = redis.call('HRANDFIELD', bucket, -8, 'WITHVALUES')
  local victim = fields[1]
  for index = 1, #fields, 2 do
    if string.sub(fields[index + 1], -1) == '0' then
      victim = fields[index]
      break
    end
  end
  redis.call('HDEL', bucket, victim)
end

for index = 2, #KEYS do
  local bucket, offset = KEYS[index], 4 * index - 4
  local source, final = ARGV[offset + 1], ARGV[offset + 4]
  local negative, positive = tonumber(ARGV[offset + 2]), tonumber(ARGV[offset + 3])
  local epoch, expiry_is_recent = read_epoch, false
  local stored = redis.call('HGET', bucket, source)
  if stored then
    local stored_epoch, stored_minute, stored_negative, stored_positive, stored_final =
      string.match(stored, '^(%d+):(%d+):(%d+):(%d+):(%d)$')
    if stored_epoch then
      negative, positive = math.max(negative, tonumber(stored_negative)), math.max(positive, tonumber(stored_positive))
      if stored_final == '1' then final = '1' end
      if tonumber(stored_epoch) > tonumber(epoch) then epoch = stored_epoch end
      expiry_is_recent = math.floor(tonumber(stored_minute) / 60) == hour
    end
  elseif redis.call('HLEN', bucket) >= capacity then
    evict(bucket)
  end
  redis.call('HSET', bucket, source, string.format('%s:%s:%.0f:%.0f:%s', epoch, minute, negative, positive, final))
  -- Renewing the expiry once an hour is enough and saves every third command.
  if not expiry_is_recent then redis.call('EXPIRE', bucket, ttl) end
end
return 1
