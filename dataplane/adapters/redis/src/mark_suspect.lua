-- Marks the cache as suspect, if its generation is still ARGV[1].
local positions, watermark = KEYS[2], KEYS[3]
if redis.call('HGET', positions, 'generation') == ARGV[1] then
  local marked = redis.pcall('HSET', watermark, 'suspect', '1')
  if type(marked) == 'table' and marked.err then
    -- A full server refuses the mark, but never a deletion: the cache then counts as empty.
    redis.call('HDEL', positions, 'generation')
  end
end
return 1
