-- Replaces the whole cache, if its generation is still ARGV[1] ('' for an empty cache). Returns 1 if it did, 0 otherwise.
local counters, positions, touched = KEYS[1], KEYS[2], KEYS[4]
local unpack = table.unpack or unpack
local CHUNK = 1000 -- arguments per `unpack`, well below its limit; even, so that pairs stay together

local generation = redis.call('HGET', positions, 'generation')
if not generation or redis.call('HEXISTS', counters, 'total') == 0 then
  generation = ''
end
if generation ~= ARGV[1] then
  return 0
end
for index = 1, 4 do
  redis.call('DEL', KEYS[index])
end
-- For each key, in the order of KEYS: the number of pairs, then the pairs of field and value. For the sorted set `touched` they are
-- pairs of score and member.
local position = 2
for index = 1, 4 do
  local last = position + 2 * tonumber(ARGV[position])
  for first = position + 1, last, CHUNK do
    local command = KEYS[index] == touched and 'ZADD' or 'HSET'
    redis.call(command, KEYS[index], unpack(ARGV, first, math.min(first + CHUNK - 1, last)))
  end
  position = last + 1
end
return 1
