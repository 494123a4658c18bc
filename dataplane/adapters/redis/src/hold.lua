-- Holds nodes: drops their statuses, and lets fill.lua cache none until the hold ends. First the hold, so that a script that stops half-way
-- leaves a node held, never filled.
-- KEYS: per node, its statuses and its holds. ARGV: the id of the hold, the time until the hold expires in milliseconds, the time to live of the
-- holds in seconds; then per node how many conditions follow, and the conditions: statuses that contain all of these texts stay.
local id, lasts, ttl = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local held_until = string.format('%.0f', now + lasts)

-- Processors that were lost leave their holds behind.
local function forget_expired(key)
  local holds = redis.call('HGETALL', key)
  for index = 1, #holds, 2 do
    if holds[index] ~= 'changes' and tonumber(holds[index + 1]) <= now then
      redis.call('HDEL', key, holds[index])
    end
  end
end

local function stay(statuses, first, last)
  local text = first <= last and redis.call('GET', statuses)
  if not text then return false end
  for index = first, last do
    if not string.find(text, ARGV[index], 1, true) then return false end
  end
  return true
end

local conditions = 4
for index = 1, #KEYS, 2 do
  local statuses, holds = KEYS[index], KEYS[index + 1]
  local last = conditions + tonumber(ARGV[conditions])
  redis.call('HSET', holds, id, held_until)
  redis.call('HINCRBY', holds, 'changes', 1)
  redis.call('EXPIRE', holds, ttl)
  if not stay(statuses, conditions + 1, last) then redis.call('DEL', statuses) end
  conditions = last + 1
  if redis.call('HLEN', holds) > 4 then forget_expired(holds) end
end
return 1
