-- Removes inactive consumers without pending entries from all groups of a stream. The check and the
-- removal are one step, because the removal of a consumer also drops its pending entries.
-- KEYS  1     the stream
-- ARGV  idle  the idle time in milliseconds above which a consumer is inactive
-- Reply: the number of consumers removed.
if redis.call('TYPE', KEYS[1]).ok ~= 'stream' then return 0 end
local function members(flat)
  local of = {}
  for at = 1, #flat, 2 do of[flat[at]] = flat[at + 1] end
  return of
end
local removed = 0
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local name = members(group).name
  for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], name)) do
    local of = members(consumer)
    if of.pending == 0 and of.idle > tonumber(ARGV[1]) then
      redis.call('XGROUP', 'DELCONSUMER', KEYS[1], name, of.name)
      removed = removed + 1
    end
  end
end
return removed
