-- Commits a batch: checks the version of every entity, then writes the groups whose entities are
-- all as their decisions saw them. The only script that writes what the services own; it knows no
-- business word. All of it is checked before the first write, for Redis does not roll back.
--
-- KEYS  1..E         entities, those of the first group first, each key once
--       E+1..E+S     streams
--       E+S+1..E+S+L lists (indexes)
--       E+S+L+1..    sorted sets (indexes)
-- ARGV  G E S L Z    the number of groups, entities, streams, lists and sorted sets
--       n            for each group: how many of the entities are its own
--       expected new for each entity: "<version> " as it was seen, "" for absent;
--                    the whole string to store, "" to leave it
--       A            the number of appends, then for each:
--         group stream fields field value ...   stream: position in KEYS; fields: how many
--                                               strings follow
--       P            the number of pushes, then for each:
--         group list id                         list: position in KEYS
--       M            the number of moves, then for each:
--         group set member joins                set: position in KEYS; joins: "1" to add the
--                                               member, with score 0, "0" to remove it
--
-- Reply, an array with one item for each group:
--       1                            Committed
--       {position, string or nil..}  Conflict: the entities that stand otherwise, by their position
--                                    in KEYS, and what stands there now
-- Error WRONGTYPE, naming the key: something that is not ours lies there; nothing was written.
-- Error NOPERM, naming command and key: the user may not write there; nothing was written.

local call, sub, tonumber = redis.call, string.sub, tonumber
local groups, entities = tonumber(ARGV[1]), tonumber(ARGV[2])
local streams, lists, sets = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

local function must_be(position, kind)
  local found = call('TYPE', KEYS[position]).ok
  if found ~= kind and found ~= 'none' then
    return redis.error_reply('WRONGTYPE ' .. KEYS[position] .. ' is a ' .. found
      .. ' and should be a ' .. kind)
  end
end
-- A command that is denied later would leave the others' effects behind. The keys of a kind lie below one
-- tag, so the first of them stands for all. Before Redis 7.0 there is no asking.
local function may(command, position, ...)
  if redis.acl_check_cmd and not redis.acl_check_cmd(command, KEYS[position], ...) then
    return redis.error_reply('NOPERM it has no right to ' .. command .. ' on ' .. KEYS[position])
  end
end
local denied = streams > 0 and may('XADD', entities + 1, '*', 'field', 'value')
  or lists > 0 and may('RPUSH', entities + streams + 1, 'id')
  or sets > 0 and (may('ZADD', #KEYS, '0', 'member') or may('ZREM', #KEYS, 'member'))
if denied then return denied end
for position = entities + 1, entities + streams do
  local wrong = must_be(position, 'stream')
  if wrong then return wrong end
end
for position = entities + streams + 1, entities + streams + lists do
  local wrong = must_be(position, 'list')
  if wrong then return wrong end
end
for position = #KEYS - sets + 1, #KEYS do
  local wrong = must_be(position, 'zset')
  if wrong then return wrong end
end

local standing = {}
if entities > 0 then
  standing = call('MGET', unpack(KEYS, 1, entities))
  -- MGET shows a hash or a list as absent.
  local absent = {}
  for position = 1, entities do
    if not standing[position] then absent[#absent + 1] = KEYS[position] end
  end
  if #absent > 0 and call('EXISTS', unpack(absent)) > 0 then
    for position = 1, entities do
      if not standing[position] then
        local wrong = must_be(position, 'string')
        if wrong then return wrong end
      end
    end
  end
end

local reply, writes = {}, {}
local position, argument = 0, 5 + groups
for group = 1, groups do
  local own, conflict = tonumber(ARGV[5 + group]), false
  local mark = #writes
  for _ = 1, own do
    position = position + 1
    local expected, new = ARGV[argument + 1], ARGV[argument + 2]
    argument = argument + 2
    local found = standing[position]
    local as_seen
    if found then
      as_seen = expected ~= '' and sub(found, 1, #expected) == expected
    else
      as_seen = expected == ''
    end
    if not as_seen then
      conflict = conflict or {}
      conflict[#conflict + 1] = position
      conflict[#conflict + 1] = found
    elseif new ~= '' then
      writes[#writes + 1] = KEYS[position]
      writes[#writes + 1] = new
    end
  end
  if conflict then
    for surplus = #writes, mark + 1, -1 do writes[surplus] = nil end
  end
  reply[group] = conflict or 1
end

if #writes > 0 then call('MSET', unpack(writes)) end

argument = argument + 1
for _ = 1, tonumber(ARGV[argument]) do
  local fields = tonumber(ARGV[argument + 3])
  if reply[tonumber(ARGV[argument + 1])] == 1 then
    call('XADD', KEYS[tonumber(ARGV[argument + 2])], '*',
      unpack(ARGV, argument + 4, argument + 3 + fields))
  end
  argument = argument + 3 + fields
end

-- What goes to one list or set goes there in one call.
local pushed, added, removed = {}, {}, {}
local function gather(calls, place)
  local values = calls[place]
  if not values then
    values = {}
    calls[place] = values
  end
  return values
end

argument = argument + 1
for _ = 1, tonumber(ARGV[argument]) do
  if reply[tonumber(ARGV[argument + 1])] == 1 then
    local ids = gather(pushed, tonumber(ARGV[argument + 2]))
    ids[#ids + 1] = ARGV[argument + 3]
  end
  argument = argument + 3
end

argument = argument + 1
for _ = 1, tonumber(ARGV[argument]) do
  if reply[tonumber(ARGV[argument + 1])] == 1 then
    local place = tonumber(ARGV[argument + 2])
    if ARGV[argument + 4] == '1' then
      local members = gather(added, place)
      members[#members + 1] = 0
      members[#members + 1] = ARGV[argument + 3]
    else
      local members = gather(removed, place)
      members[#members + 1] = ARGV[argument + 3]
    end
  end
  argument = argument + 4
end

for place = entities + streams + 1, #KEYS do
  if pushed[place] then call('RPUSH', KEYS[place], unpack(pushed[place])) end
  if removed[place] then call('ZREM', KEYS[place], unpack(removed[place])) end
  if added[place] then call('ZADD', KEYS[place], unpack(added[place])) end
end

return reply
