-- Caches the statuses of a node, unless it is held, or was since the store was read.
-- KEYS: the statuses of the node, its holds. ARGV: the number of changes of its holds before the store was read, the statuses, their time
-- to live in seconds.
-- The holds are a hash: until when each of them lasts, in milliseconds, and the number of changes.
local time = redis.call('TIME')
local now, changes = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000), '0'
local holds = redis.call('HGETALL', KEYS[2])
for index = 1, #holds, 2 do
  if holds[index] == 'changes' then
    changes = holds[index + 1]
  elseif tonumber(holds[index + 1]) > now then
    return 0
  end
end
if changes ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
