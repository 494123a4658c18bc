-- Applies one flush: counters and positions change together, or nothing changes and the reason is returned.
-- Everything is checked before the first write, so that a server that refuses writes refuses all of them.
-- Large numbers stay strings, because Lua numbers lose precision; they become numbers only to be compared.
-- ARGV: the ten values below, then the lists `froms`, `moves`, `marks` and `minutes`, each described where it is read.
local counters, positions, watermark, touched = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local generation, total, now, oldest, as_of, partitions = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local froms, moves, marks, minutes = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local unpack = table.unpack or unpack
local CHUNK = 1000 -- arguments per `unpack`, well below its limit; even, so that pairs stay together

-- Calls act(first, last) for each chunk of first..last.
local function in_chunks(first, last, act)
  for from = first, last, CHUNK do
    act(from, math.min(from + CHUNK - 1, last))
  end
end

-- The values of the fields ARGV[first..last] of `positions`; false where a field is missing.
local function positions_of(first, last)
  local values = {}
  in_chunks(first, last, function(from, to)
    for _, value in ipairs(redis.call('HMGET', positions, unpack(ARGV, from, to))) do
      values[#values + 1] = value
    end
  end)
  return values
end

local current_generation = redis.call('HGET', positions, 'generation')
if not current_generation or redis.call('HEXISTS', counters, 'total') == 0 then
  return 'the cache is empty'
end
if current_generation ~= generation then
  return 'the generation is ' .. current_generation
end

-- froms: the offset fields, then the offsets that they must contain. A missing one counts as 0.
local list = 10
for index, offset in ipairs(positions_of(list + 1, list + froms)) do
  local expected = ARGV[list + froms + index]
  if (offset or '0') ~= expected then
    return 'partition ' .. string.sub(ARGV[list + index], 8) .. ' is at ' .. (offset or '0') .. ', not at ' .. expected
  end
end

-- moves: pairs of field and offset.
list = list + 2 * froms
in_chunks(list + 1, list + 2 * moves, function(from, to)
  redis.call('HSET', positions, unpack(ARGV, from, to))
end)

-- marks: pairs of fields (the writer's base and its mark on the partition), then the numbers. A mark never decreases.
list = list + 2 * moves
local current = positions_of(list + 1, list + 2 * marks)
local changes = {}
for index = 1, marks do
  local seq = ARGV[list + 2 * marks + index]
  local base, mark = current[2 * index - 1] or 0, current[2 * index] or 0
  if tonumber(seq) > math.max(tonumber(base), tonumber(mark)) then
    changes[#changes + 1] = ARGV[list + 2 * index]
    changes[#changes + 1] = seq
  end
end
in_chunks(1, #changes, function(from, to)
  redis.call('HSET', positions, unpack(changes, from, to))
end)

-- minutes: pairs of minute and count. Retention uses the later of the minute itself and its last change.
list = list + 3 * marks
if total ~= '0' then
  redis.call('HINCRBY', counters, 'total', total)
end
for index = list + 1, list + 2 * minutes, 2 do
  local minute = ARGV[index]
  redis.call('HINCRBY', counters, 'minute:' .. minute, ARGV[index + 1])
  redis.call('ZADD', touched, tonumber(minute) > tonumber(now) and minute or now, minute)
end
local expired = redis.call('ZRANGEBYSCORE', touched, '-inf', oldest)
if #expired > 0 then
  for index, minute in ipairs(expired) do
    expired[index] = 'minute:' .. minute
  end
  in_chunks(1, #expired, function(from, to)
    redis.call('HDEL', counters, unpack(expired, from, to))
  end)
  redis.call('ZREMRANGEBYSCORE', touched, '-inf', oldest)
end

if as_of ~= '' then
  local times, lowest = {}, nil
  local fields = redis.call('HGETALL', watermark)
  for index = 1, #fields, 2 do
    if string.sub(fields[index], 1, 6) == 'as_of:' then
      times[fields[index]] = fields[index + 1]
      if not lowest or tonumber(fields[index + 1]) < tonumber(lowest) then
        lowest = fields[index + 1]
      end
    end
  end
  -- A new partition starts with the lowest watermark of the others.
  for partition = 0, tonumber(partitions) - 1 do
    local field = 'as_of:' .. partition
    if not times[field] then
      times[field] = lowest or '0'
      redis.call('HSET', watermark, field, times[field])
    end
  end
  for index = 11, 10 + froms do
    local field = 'as_of:' .. string.sub(ARGV[index], 8)
    if not times[field] or tonumber(times[field]) < tonumber(as_of) then
      redis.call('HSET', watermark, field, as_of)
    end
  end
  redis.call('HSET', watermark, 'partitions', partitions)
end
return false
