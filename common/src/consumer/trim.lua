-- Shortens a stream without loss for a group: every removed entry was delivered to and acknowledged by
-- every group, including those that must exist.
-- KEYS  1                   the stream
-- ARGV  keep bytes group…   the number of entries to keep, or fewer if the stream takes more memory than
--                           `bytes`; the groups that must exist
-- Reply: the number of entries removed. Whole nodes of the stream are removed, and one call may stop
-- early: call until it is 0.
if redis.call('TYPE', KEYS[1]).ok ~= 'stream' then return 0 end
local keep, bytes = tonumber(ARGV[1]), tonumber(ARGV[2])
local length = redis.call('XLEN', KEYS[1])
local surplus = length - keep
-- The size is exact up to this number of nodes of about 4 KB; for larger streams Redis estimates it from
-- the oldest nodes.
local size = redis.call('MEMORY', 'USAGE', KEYS[1], 'SAMPLES', 20000)
-- Entries differ in size, so a call removes a part and the next call measures again. The newest entry
-- always stays, because readers find their position by it.
local excess = math.ceil(length * (1 - bytes / size))
excess = math.min(excess, math.ceil(length / 10), length - 1)
if surplus <= 0 and excess <= 0 then return 0 end

local function parts(id)
  local time, sequence = string.match(id, '^(%d+)-(%d+)$')
  return time, sequence
end
-- Compares ids as text of equal length, because Lua's numbers cannot hold 64 bits.
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
for at = 3, #ARGV do
  if not seen[ARGV[at]] then return 0 end
end
if first == '0-0' then return 0 end
local function remove(count)
  -- A stream without groups is limited by length and size alone.
  if first == nil then return redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', length - count) end
  -- MINID keeps `first` itself. LIMIT restricts the removal to the surplus.
  return redis.call('XTRIM', KEYS[1], 'MINID', '~', first, 'LIMIT', math.min(count, 100000))
end
local removed = 0
if surplus > 0 then removed = remove(surplus) end
if excess > 0 then
  -- The oldest node may hold more entries than `excess`, by default up to 100.
  for count = excess, math.min(excess + 100, length - 1) do
    if removed > 0 then break end
    removed = remove(count)
  end
end
return removed
