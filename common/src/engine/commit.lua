-- Commits a batch: checks the version of every entity, then writes the groups whose entities all still
-- have the versions that their decisions saw. No other script writes the data of services. The script
-- contains no domain terms. Redis does not roll back, so the script checks everything that could make a
-- command fail before the first write: types, permissions, the last id of each stream. (If memory, disk
-- or replicas are missing, Redis refuses the first write of a script, and no later one.)
--
-- KEYS  1            the identity of the store
--       2            the lease (see below)
--       3..          E entities, those of the first group first, each key once;
--                    then S streams, L lists (indexes) and Z sorted sets (indexes)
-- ARGV  G E S L Z    the number of groups, entities, streams, lists and sorted sets
--       store        the identity that the store had when the entries were read; "": any
--       instance     the caller
--       lease        the duration of a lease in milliseconds; "0": leases are ignored
--       n            for each group: the number of its entities
--       expected new for each entity: "<version> " as the decision saw it, "" for absent;
--                    the whole string to store, "" to leave the entity unchanged
--       A            the number of operations, then for each:
--         group key n argument...
--                    key: the position in KEYS, which also determines the operation:
--                    a stream: the n arguments are the fields and values of a new entry;
--                    a list: the argument is appended;
--                    a sorted set: a member, and "1" to add it with score 0, "0" to remove it; or, as a
--                    limit, before all other operations and in the order of the groups: a number and a
--                    range of members (as for ZLEXCOUNT). The group adds one member to the range, and is
--                    committed only if the range has fewer members than that number, including those
--                    that earlier groups add
--
-- Reply, an array with one item for each group:
--       1                            committed
--       0                            deferred: another instance holds the lease on one of its entities
--       {position, string or nil..}  conflict: the entities with other versions, by their position in
--                                    KEYS, and their current strings; a negative position: the key
--                                    holds no string, and its type follows
--       {reason, position}           refused: that stream, list or set cannot be written, e.g.
--                                    "WRONGTYPE <key> is a hash and should be a list"
--       {limit}                      full: the number of the group's limit, from 1, that is reached
--       Without groups: the reasons for the keys that cannot be written.
-- Error FENCED: the store has another identity; nothing was written.
--
-- The lease prevents starvation: a batch with a long decision could lose to quick batches indefinitely.
-- An instance that lost acquires the lease (acquire_lease.lua). Until it has committed, or the lease has
-- expired, groups of other instances with the same entities are deferred. Instances wait for the lease
-- in order of arrival. Its value is JSON, [[instance, entity, ..], ..]: the holder, then the waiting
-- instances. A commit of the holder passes the lease on and wakes the next instance. Correctness depends
-- on the versions alone.

local call, sub, tonumber = redis.call, string.sub, tonumber
local groups, entities = tonumber(ARGV[1]), tonumber(ARGV[2])
local streams, lists, sets = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local store, instance, ttl = ARGV[6], ARGV[7], ARGV[8]
local first_stream = 3 + entities
local first_list = first_stream + streams
local first_set = first_list + lists

local standing = call('MGET', unpack(KEYS, 1, 2 + entities))
if store ~= '' and standing[1] ~= store then
  return redis.error_reply('FENCED the store is ' .. (standing[1] or 'new'))
end

-- The reasons why keys cannot be written, by position.
local refused = {}
local function must_be(position, kind)
  local found = call('TYPE', KEYS[position]).ok
  if found ~= kind and found ~= 'none' then
    refused[position] = 'WRONGTYPE ' .. KEYS[position] .. ' is a ' .. found
      .. ' and should be a ' .. kind
  end
end
-- Redis 6.2 has no acl_check_cmd.
local function may(position, command, ...)
  if redis.acl_check_cmd and not redis.acl_check_cmd(command, KEYS[position], ...) then
    refused[position] = 'NOPERM it has no permission to ' .. command .. ' on ' .. KEYS[position]
  end
end
for position = first_stream, first_list - 1 do
  local about = redis.pcall('XINFO', 'STREAM', KEYS[position])
  if about.err then
    must_be(position, 'stream')
  else
    for at = 1, #about, 2 do
      if about[at] == 'last-generated-id' then
        local sequence = string.match(about[at + 1], '^18446744073709551615%-(%d+)$')
        if sequence and #sequence == 20 and sequence > '18446744073709000000' then
          refused[position] = 'EXHAUSTED ' .. KEYS[position]
            .. ' has had the last id that a stream can have; delete that entry and set the last id '
            .. 'back (XSETID), or rename the stream'
        end
        break
      end
    end
  end
  may(position, 'XADD', '*', 'field', 'value')
end
for position = first_list, first_set - 1 do
  must_be(position, 'list')
  may(position, 'RPUSH', 'id')
end
for position = first_set, #KEYS do
  must_be(position, 'zset')
  may(position, 'ZADD', '0', 'member')
  may(position, 'ZREM', 'member')
end

local reply = {}
local operations = 9 + groups + 2 * entities
local function each_operation(visit)
  local at = operations
  for _ = 1, tonumber(ARGV[operations]) do
    local count = tonumber(ARGV[at + 3])
    visit(tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), at + 4, at + 3 + count)
    at = at + 3 + count
  end
end
if next(refused) then
  if groups == 0 then
    for _, reason in pairs(refused) do reply[#reply + 1] = reason end
    return reply
  end
  each_operation(function(group, key)
    if refused[key] then reply[group] = {refused[key], key} end
  end)
end

-- MGET returns keys of other types as absent.
local strange = {}
local absent = {}
for position = 3, 2 + entities do
  if not standing[position] then absent[#absent + 1] = KEYS[position] end
end
if #absent > 0 and call('EXISTS', unpack(absent)) > 0 then
  for position = 3, 2 + entities do
    if not standing[position] then
      local found = call('TYPE', KEYS[position]).ok
      if found ~= 'none' then strange[position] = found end
    end
  end
end

local readable, queue = pcall(cjson.decode, ttl ~= '0' and standing[2] or '')
local holder = readable and type(queue) == 'table' and type(queue[1]) == 'table' and queue[1][1]
local leased = {}
if holder and holder ~= instance then
  for at = 2, #queue[1] do leased[queue[1][at]] = true end
end

local writes, contested = {}, {instance}
local lost = false
local position, argument = 2, 8 + groups
-- The next limit, and how many members each limited range has.
local limit, members = operations + 1, {}
for group = 1, groups do
  local conflict, deferred = false, false
  local mark, keys = #writes, {}
  for _ = 1, tonumber(ARGV[8 + group]) do
    position = position + 1
    local expected, new = ARGV[argument + 1], ARGV[argument + 2]
    argument = argument + 2
    local found = standing[position]
    local as_seen
    if found then
      as_seen = expected ~= '' and sub(found, 1, #expected) == expected
      keys[#keys + 1] = KEYS[position]
    else
      as_seen = expected == '' and not strange[position]
    end
    if leased[KEYS[position]] then deferred = true end
    if not as_seen then
      conflict = conflict or {}
      conflict[#conflict + 1] = strange[position] and -position or position
      conflict[#conflict + 1] = strange[position] or found
      -- An entity that was expected to be absent is found only once; contention needs existing entities.
      if expected ~= '' then conflict.lost = true end
    elseif new ~= '' then
      writes[#writes + 1] = KEYS[position]
      writes[#writes + 1] = new
    end
  end
  if reply[group] then
    conflict = reply[group]
  elseif deferred then
    conflict = 0
  elseif conflict and conflict.lost then
    lost = true
    for at = 1, #keys do contested[#contested + 1] = keys[at] end
  end
  local counted, number = {}, 0
  while ARGV[limit + 2] == '3' and tonumber(ARGV[limit]) == group do
    if not conflict then
      number = number + 1
      local set, least, greatest = KEYS[tonumber(ARGV[limit + 1])], ARGV[limit + 4], ARGV[limit + 5]
      local range = set .. least
      local there = members[range] or call('ZLEXCOUNT', set, least, greatest)
      if there < tonumber(ARGV[limit + 3]) then
        members[range] = there + 1
        counted[number] = range
      else
        conflict = {number}
      end
    end
    limit = limit + 6
  end
  if conflict then
    for surplus = #writes, mark + 1, -1 do writes[surplus] = nil end
    for at = 1, #counted do members[counted[at]] = members[counted[at]] - 1 end
  end
  reply[group] = conflict or 1
end

if #writes > 0 then call('MSET', unpack(writes)) end

-- Each list and each set is written with one call.
local pushed, added, removed = {}, {}, {}
local function gather(calls, place)
  local values = calls[place]
  if not values then
    values = {}
    calls[place] = values
  end
  return values
end
each_operation(function(group, key, first, last)
  if reply[group] ~= 1 then return end
  if key < first_list then
    call('XADD', KEYS[key], '*', unpack(ARGV, first, last))
  elseif key < first_set then
    local ids = gather(pushed, key)
    ids[#ids + 1] = ARGV[first]
  elseif last - first == 2 then
    -- A limit, which was checked above.
    return
  elseif ARGV[last] == '1' then
    local members = gather(added, key)
    members[#members + 1] = 0
    members[#members + 1] = ARGV[first]
  else
    local members = gather(removed, key)
    members[#members + 1] = ARGV[first]
  end
end)
for place = first_list, #KEYS do
  if pushed[place] then call('RPUSH', KEYS[place], unpack(pushed[place])) end
  if removed[place] then call('ZREM', KEYS[place], unpack(removed[place])) end
  if added[place] then call('ZADD', KEYS[place], unpack(added[place])) end
end

if holder ~= instance then return reply end
-- An error here is harmless, because the lease expires.
pcall(function()
  if lost then
    queue[1] = contested
  else
    table.remove(queue, 1)
  end
  if #queue == 0 then
    call('SET', KEYS[2], '', 'PX', 1)
    return
  end
  call('SET', KEYS[2], cjson.encode(queue), 'PX', ttl)
  if not lost then
    local turn = KEYS[2] .. ':' .. queue[1][1]
    call('RPUSH', turn, '')
    call('PEXPIRE', turn, ttl)
  end
end)

return reply
