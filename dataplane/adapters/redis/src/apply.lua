-- Applies one flush: counters and positions change together, or nothing changes and the reason is returned.
-- A server may refuse any call for lack of memory, and keeps what was written before. Therefore the first write also sets `incomplete`,
-- and the last but the watermark removes it: in between, the cache counts as empty. If the first write is refused, nothing has changed.
-- Large numbers stay strings, because Lua numbers lose precision; they become numbers only to be compared.
-- ARGV: the ten values below. A list is one text of words, because a server limits the words of a command.
local counters, positions, watermark, touched = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local generation, total, now, oldest, as_of, partitions = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local unpack = table.unpack or unpack
local CHUNK = 1000 -- arguments per call, well below the limit of `unpack`; even, so that pairs stay together

local function words(text)
  local list = {}
  for word in string.gmatch(text, '%S+') do
    list[#list + 1] = word
  end
  return list
end

-- Calls the command on `key` with the arguments in `list`, as often as they need.
local function call(command, key, list)
  for first = 1, #list, CHUNK do
    redis.call(command, key, unpack(list, first, math.min(first + CHUNK - 1, #list)))
  end
end

-- The values of `fields` of the positions; false where a field is missing.
local function positions_of(fields)
  local values = {}
  for first = 1, #fields, CHUNK do
    local last = math.min(first + CHUNK - 1, #fields)
    for _, value in ipairs(redis.call('HMGET', positions, unpack(fields, first, last))) do
      values[#values + 1] = value
    end
  end
  return values
end

local state = redis.call('HMGET', positions, 'generation', 'incomplete')
if not state[1] or redis.call('HEXISTS', counters, 'total') == 0 then
  return 'the cache is empty'
end
if state[2] then
  return 'the cache is incomplete, because a change was interrupted'
end
if state[1] ~= generation then
  return 'the generation is ' .. state[1]
end

-- Pairs of partition and the offset that it must be at. A missing one counts as 0.
local froms, fields = words(ARGV[7]), {}
for index = 1, #froms, 2 do
  fields[#fields + 1] = 'offset:' .. froms[index]
end
for index, offset in ipairs(positions_of(fields)) do
  local partition, expected = froms[2 * index - 1], froms[2 * index]
  if (offset or '0') ~= expected then
    return 'partition ' .. partition .. ' is at ' .. (offset or '0') .. ', not at ' .. expected
  end
end

-- Triples of writer, partition and number. A mark never decreases, neither below that of the partition nor below the writer's base.
local marks = words(ARGV[9])
fields = {}
for index = 1, #marks, 3 do
  fields[#fields + 1] = 'mark:' .. marks[index]
  fields[#fields + 1] = 'mark:' .. marks[index] .. ':' .. marks[index + 1]
end
local current = positions_of(fields)

-- Pairs of minute and count.
local minutes = words(ARGV[10])
local counts = total ~= '0' or #minutes > 0 or #marks > 0
local moved = counts and { 'incomplete', '1' } or {}
-- Pairs of partition and offset.
local moves = words(ARGV[8])
for index = 1, #moves, 2 do
  moved[#moved + 1] = 'offset:' .. moves[index]
  moved[#moved + 1] = moves[index + 1]
end
local mark = 0
for index = 3, #marks, 3 do
  mark = mark + 2
  if tonumber(marks[index]) > math.max(tonumber(current[mark - 1] or 0), tonumber(current[mark] or 0)) then
    moved[#moved + 1] = fields[mark]
    moved[#moved + 1] = marks[index]
  end
end
call('HSET', positions, moved)

if total ~= '0' then
  redis.call('HINCRBY', counters, 'total', total)
end
-- Retention uses the later of the minute itself and its last change.
local changed = {}
for index = 1, #minutes, 2 do
  local minute = minutes[index]
  redis.call('HINCRBY', counters, 'minute:' .. minute, minutes[index + 1])
  changed[#changed + 1] = tonumber(minute) > tonumber(now) and minute or now
  changed[#changed + 1] = minute
end
call('ZADD', touched, changed)
local expired = redis.call('ZRANGEBYSCORE', touched, '-inf', oldest)
if #expired > 0 then
  -- First, so that no reader takes a minute that is missing for one without events.
  local from = redis.call('HGET', watermark, 'minutes_from')
  if from and tonumber(from) <= tonumber(oldest) then
    redis.call('HSET', watermark, 'minutes_from', string.format('%d', tonumber(oldest) + 1))
  end
  for index, minute in ipairs(expired) do
    expired[index] = 'minute:' .. minute
  end
  call('HDEL', counters, expired)
  redis.call('ZREMRANGEBYSCORE', touched, '-inf', oldest)
end
if counts then
  redis.call('HDEL', positions, 'incomplete')
end

-- Every time is true by itself, so it does not matter which of them are written before the script is stopped.
if as_of ~= '' then
  local times, lowest = {}, nil
  local held = redis.call('HGETALL', watermark)
  for index = 1, #held, 2 do
    if string.sub(held[index], 1, 6) == 'as_of:' then
      times[held[index]] = held[index + 1]
      if not lowest or tonumber(held[index + 1]) < tonumber(lowest) then
        lowest = held[index + 1]
      end
    end
  end
  -- A new partition starts with the lowest watermark of the others.
  local advanced = { 'partitions', partitions }
  local function advance(field, time)
    times[field] = time
    advanced[#advanced + 1] = field
    advanced[#advanced + 1] = time
  end
  for partition = 0, tonumber(partitions) - 1 do
    local field = 'as_of:' .. partition
    if not times[field] then
      advance(field, lowest or '0')
    end
  end
  for index = 1, #froms, 2 do
    local field = 'as_of:' .. froms[index]
    if not times[field] or tonumber(times[field]) < tonumber(as_of) then
      advance(field, as_of)
    end
  end
  call('HSET', watermark, advanced)
end
return false
