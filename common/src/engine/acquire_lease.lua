-- Adds the caller to the queue for the lease of a topic (see commit.lua). If it is the holder, wakes it.
--
-- KEYS  1        the lease
--       2        the list on which this instance waits for the lease
-- ARGV  instance the caller
--       lease    the duration of a lease in milliseconds
--       key..    the contested entities
--
-- Reply: 1 if the caller holds the lease now, 0 if it has to wait: BLPOP on the list returns when it
--        becomes the holder.

local instance, ttl = ARGV[1], ARGV[2]
local found = redis.pcall('GET', KEYS[1])
local readable, queue = pcall(cjson.decode, type(found) == 'string' and found or '')
if not readable or type(queue) ~= 'table' then queue = {} end
local place
for at, waiting in ipairs(queue) do
  if type(waiting) ~= 'table' then
    queue, place = {}, nil
    break
  end
  if waiting[1] == instance then place = at end
end
-- A wake-up from an earlier wait is void.
redis.call('PEXPIRE', KEYS[2], 0)
queue[place or #queue + 1] = {instance, unpack(ARGV, 3)}
if queue[1][1] == instance then
  redis.call('SET', KEYS[1], cjson.encode(queue), 'PX', ttl)
  redis.call('RPUSH', KEYS[2], '')
  redis.call('PEXPIRE', KEYS[2], ttl)
  return 1
end
redis.call('SET', KEYS[1], cjson.encode(queue), 'KEEPTTL')
return 0
