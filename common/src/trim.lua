-- Shortens a stream without taking anything from a group: what is removed was delivered to and
-- acknowledged by every group, those that must exist and any other that does.
-- KEYS  1             the stream
-- ARGV  keep group…   how many entries stay in any case; the groups that must exist
-- Reply: the number of entries removed.
if redis.call('TYPE', KEYS[1]).ok ~= 'stream' then return 0 end
local keep = tonumber(ARGV[1])
local surplus = redis.call('XLEN', KEYS[1]) - keep
if surplus <= 0 then return 0 end

local function parts(id)
  local time, sequence = string.match(id, '^(%d+)-(%d+)$')
  return time, sequence
end
-- Compared as text of equal length: Lua's numbers are too short for 64 bits.
local function less(a, b)
  local at, as = parts(a)
  local bt, bs = parts(b)
  if #at ~= #bt then return #at < #bt end
  if at ~= bt then return at < bt end
  if #as ~= #bs then return #as < #bs end
  return as < bs
end

local seen = {}
local first = nil
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local of = {}
  for at = 1, #group, 2 do of[group[at]] = group[at + 1] end
  seen[of.name] = true
  local needed = of['last-delivered-id']
  if of.pending > 0 then
    local oldest = redis.call('XPENDING', KEYS[1], of.name)[2]
    if less(oldest, needed) then needed = oldest end
  end
  if first == nil or less(needed, first) then first = needed end
end
for at = 2, #ARGV do
  if not seen[ARGV[at]] then return 0 end
end
-- A stream that nobody reads through a group is bounded by its length alone.
if first == nil then return redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', keep) end
if first == '0-0' then return 0 end
-- MINID keeps `first` itself. Of what may go, only the surplus does.
return redis.call('XTRIM', KEYS[1], 'MINID', '~', first, 'LIMIT', math.min(surplus, 100000))
