-- Begins an epoch. First the cache is closed to readers, so that a script that stops half-way leaves no old status in use.
-- KEYS: the epoch, the epoch in which the cache may be used, the leases; see renew.lua.
-- ARGV: the owner, 1 if it closes the cache and 0 if it opens it again, for how many milliseconds, the latest epoch that the caller knows.
-- Returns the epoch.
local epoch_key, open_key, leases_key, owner, closes, lasts = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2] == '1', ARGV[3]
local known = tonumber(ARGV[4])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local closed_until = string.format('%.0f', now + tonumber(lasts))
redis.call('DEL', open_key)
local last = tonumber(redis.call('GET', epoch_key) or '0')
if last == 0 or last < known then
  -- Perhaps holds were lost, too.
  redis.call('HSET', leases_key, 'closed:lost', closed_until)
end
if closes then redis.call('HSET', leases_key, 'closed:' .. owner, closed_until) end
-- Steps of a random length: a cache that lost everything does not begin an epoch again that statuses were read in.
local step = math.max(known - last, 0) + 1 + tonumber(time[2])
local epoch = redis.call('INCRBY', epoch_key, string.format('%.0f', step))
if not closes then redis.call('HDEL', leases_key, 'closed:' .. owner) end
return epoch
