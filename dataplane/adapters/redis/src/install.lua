-- Replaces everything, if the generation is still the one that was seen ('' for none). Returns 1 if so.
local counters, positions, touched = KEYS[1], KEYS[2], KEYS[4]
local unpack = table.unpack or unpack
local CHUNK = 1000 -- what `unpack` takes at once, with room to spare; even, so that pairs stay together

local held = redis.call('HGET', positions, 'generation')
if not held or redis.call('HEXISTS', counters, 'total') == 0 then
  held = ''
end
if held ~= ARGV[1] then
  return 0
end
for index = 1, 4 do
  redis.call('DEL', KEYS[index])
end
-- Per hash, in the order of KEYS: how many pairs follow, then pairs of field and value. The last one has scores and members.
local at = 2
for index = 1, 4 do
  local last = at + 2 * tonumber(ARGV[at])
  for from = at + 1, last, CHUNK do
    local command = KEYS[index] == touched and 'ZADD' or 'HSET'
    redis.call(command, KEYS[index], unpack(ARGV, from, math.min(from + CHUNK - 1, last)))
  end
  at = last + 1
end
return 1
