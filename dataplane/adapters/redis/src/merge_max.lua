-- Raises what is known of sources. KEYS: the epoch, then the bucket of each entry.
-- ARGV: the epoch in which the store was asked ('' for this one), the minute it is, the room of a bucket, its time to live in
-- seconds, then per entry: source, the two counts, and 1 if it is final. A value is epoch:minute:not:yes:final.
local current = redis.call('GET', KEYS[1]) or '0'
local asked = ARGV[1] ~= '' and ARGV[1] or current
local minute, room, ttl = ARGV[2], tonumber(ARGV[3]), ARGV[4]
local hour = math.floor(tonumber(minute) / 60)

-- Makes room in a full bucket: what is final would have to be asked for again and again, so it goes last.
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
  local bucket, at = KEYS[index], 4 * index - 4
  local source, no, yes, final = ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), ARGV[at + 4]
  local epoch, prolonged = asked, false
  local held = redis.call('HGET', bucket, source)
  if held then
    local its, raised, n, y, f = string.match(held, '^(%d+):(%d+):(%d+):(%d+):(%d)$')
    if its then
      no, yes = math.max(no, tonumber(n)), math.max(yes, tonumber(y))
      if f == '1' then final = '1' end
      if tonumber(its) > tonumber(epoch) then epoch = its end
      prolonged = math.floor(tonumber(raised) / 60) == hour
    end
  elseif redis.call('HLEN', bucket) >= room then
    evict(bucket)
  end
  redis.call('HSET', bucket, source, string.format('%s:%s:%.0f:%.0f:%s', epoch, minute, no, yes, final))
  -- Once an hour is enough, and saves every third command.
  if not prolonged then redis.call('EXPIRE', bucket, ttl) end
end
return 1
