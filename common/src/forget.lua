-- Removes from a group the consumers that have nothing pending and were not seen for long.
-- KEYS  1                    the stream
-- ARGV  group idle instance  idle in milliseconds; the instance that asks is never removed
-- Reply: the number removed. Asks nothing that a reader of another owner's stream may not ask.
local removed = 0
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if consumers.err == 'ERR no such key' then return removed end
if consumers.err then return consumers end
for _, consumer in ipairs(consumers) do
  local of = {}
  for at = 1, #consumer, 2 do of[consumer[at]] = consumer[at + 1] end
  if of.pending == 0 and of.idle > tonumber(ARGV[2]) and of.name ~= ARGV[3] then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], of.name)
    removed = removed + 1
  end
end
return removed
