-- Replaces the whole cache, if its generation is still ARGV[1] ('' for an empty or incomplete cache). Returns 1 if it did, 0 otherwise.
-- A server may refuse any call for lack of memory, and keeps what was written before. The generation is written last, and without it
-- the cache counts as empty.
-- ARGV: the generation to replace, the new one, then for each key, in the order of KEYS, a text of words: pairs of field and value, or
-- of score and member.
local counters, positions, touched = KEYS[1], KEYS[2], KEYS[4]
local unpack = table.unpack or unpack
local CHUNK = 1000 -- arguments per call, well below the limit of `unpack`; even, so that pairs stay together

local state = redis.call('HMGET', positions, 'generation', 'incomplete')
local generation = state[1]
if not generation or state[2] or redis.call('HEXISTS', counters, 'total') == 0 then
  generation = ''
end
if generation ~= ARGV[1] then
  return 0
end
-- A full server refuses this write, before anything is deleted.
redis.call('HSET', positions, 'incomplete', '1')
for index = 1, 4 do
  redis.call('DEL', KEYS[index])
end

-- Writes pairs of field and value. For the sorted set, pairs of score and member.
local function write(key, words)
  if #words > 0 then
    redis.call(key == touched and 'ZADD' or 'HSET', key, unpack(words))
  end
end
for index = 1, 4 do
  local words = {}
  for word in string.gmatch(ARGV[index + 2], '%S+') do
    words[#words + 1] = word
    if #words == CHUNK then
      write(KEYS[index], words)
      words = {}
    end
  end
  write(KEYS[index], words)
end
redis.call('HSET', positions, 'generation', ARGV[2])
return 1
