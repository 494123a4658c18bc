-- Applies one flush: counters and positions change together, or nothing does and the reason is returned.
-- Everything is checked before the first write, so that a server that refuses writes refuses the whole.
-- Numbers that may be large stay strings; they are only compared as numbers.
local counters, positions, watermark, touched = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local generation, total, now, oldest, as_of, partitions = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local froms, moves, marks, minutes = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local unpack = table.unpack or unpack
local CHUNK = 1000 -- what `unpack` takes at once, with room to spare; even, so that pairs stay together

-- Calls act(first, last) for pieces of first..last.
local function pieces(first, last, act)
  for from = first, last, CHUNK do
    act(from, math.min(from + CHUNK - 1, last))
  end
end

-- Values of the fields ARGV[first..last] of `positions`; false where there is none.
local function positions_of(first, last)
  local all = {}
  pieces(first, last, function(from, to)
    for _, value in ipairs(redis.call('HMGET', positions, unpack(ARGV, from, to))) do
      all[#all + 1] = value
    end
  end)
  return all
end

local held = redis.call('HGET', positions, 'generation')
if not held or redis.call('HEXISTS', counters, 'total') == 0 then
  return 'the cache is empty'
end
if held ~= generation then
  return 'its generation is ' .. held
end

-- froms: fields, then the offsets they must hold.
local at = 10
for index, offset in ipairs(positions_of(at + 1, at + froms)) do
  local expected = ARGV[at + froms + index]
  if (offset or '0') ~= expected then
    return 'partition ' .. string.sub(ARGV[at + index], 8) .. ' stands at ' .. (offset or '0') .. ', not ' .. expected
  end
end

-- moves: pairs of field and offset.
at = at + 2 * froms
pieces(at + 1, at + 2 * moves, function(from, to)
  redis.call('HSET', positions, unpack(ARGV, from, to))
end)

-- marks: fields in twos, the writer's base and its mark on the partition, then the numbers. A mark never falls.
at = at + 2 * moves
local known = positions_of(at + 1, at + 2 * marks)
local raised = {}
for index = 1, marks do
  local seq = ARGV[at + 2 * marks + index]
  local base, mark = known[2 * index - 1] or 0, known[2 * index] or 0
  if tonumber(seq) > math.max(tonumber(base), tonumber(mark)) then
    raised[#raised + 1] = ARGV[at + 2 * index]
    raised[#raised + 1] = seq
  end
end
pieces(1, #raised, function(from, to)
  redis.call('HSET', positions, unpack(raised, from, to))
end)

-- minutes: pairs of minute and count. A minute is kept by the later of itself and its last touch.
at = at + 3 * marks
if total ~= '0' then
  redis.call('HINCRBY', counters, 'total', total)
end
for index = at + 1, at + 2 * minutes, 2 do
  local minute = ARGV[index]
  redis.call('HINCRBY', counters, 'minute:' .. minute, ARGV[index + 1])
  redis.call('ZADD', touched, tonumber(minute) > tonumber(now) and minute or now, minute)
end
local gone = redis.call('ZRANGEBYSCORE', touched, '-inf', oldest)
if #gone > 0 then
  for index, minute in ipairs(gone) do
    gone[index] = 'minute:' .. minute
  end
  pieces(1, #gone, function(from, to)
    redis.call('HDEL', counters, unpack(gone, from, to))
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
  -- A partition that is new promises no more than the others did.
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
