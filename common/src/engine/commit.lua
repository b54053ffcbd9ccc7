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
--       M            the number of limits, then for each, in the order of the groups:
--         group key members least greatest
--                    the group adds one member to this range of a sorted set (as for ZLEXCOUNT), and is
--                    committed only if the range has fewer members than that number, including those
--                    that earlier groups add
--       I group..    the number of items, and the group of each one, in the order of the runs
--       R            the number of runs of items for one key, then for each:
--         key width count [name..] value..
--                    key: the position in KEYS, which also determines the operation. width: the number
--                    of values of an item.
--                    a stream: each item is a new entry, with fields of these names, one per value;
--                    a list: the items, of one value each, are appended;
--                    a sorted set: items of two values, "0" and a member, are added with score 0; items
--                    of one value are removed
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
local limits = 9 + groups + 2 * entities
local owners = limits + 1 + 5 * tonumber(ARGV[limits])
local runs = owners + 1 + tonumber(ARGV[owners])
if next(refused) then
  if groups == 0 then
    for _, reason in pairs(refused) do reply[#reply + 1] = reason end
    return reply
  end
  for at = limits + 1, owners - 1, 5 do
    local key = tonumber(ARGV[at + 1])
    if refused[key] then reply[tonumber(ARGV[at])] = {refused[key], key} end
  end
  local owner, at = owners, runs + 1
  for _ = 1, tonumber(ARGV[runs]) do
    local key, width, count = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    for item = owner + 1, owner + count do
      if refused[key] then reply[tonumber(ARGV[item])] = {refused[key], key} end
    end
    owner = owner + count
    at = at + 3 + count * width + (key < first_list and width or 0)
  end
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
local leased
if holder and holder ~= instance then
  leased = {}
  for at = 2, #queue[1] do leased[queue[1][at]] = true end
end

local writes, written, contested = {}, 0, {instance}
local lost, all_committed = false, true
local position, argument = 2, 8 + groups
-- The next limit, and how many members each limited range has.
local limit, members = limits + 1, {}
for group = 1, groups do
  local conflict, deferred = false, false
  local mark, first = written, position + 1
  for _ = 1, tonumber(ARGV[8 + group]) do
    position = position + 1
    local expected, new = ARGV[argument + 1], ARGV[argument + 2]
    argument = argument + 2
    local found = standing[position]
    local as_seen
    if found then
      as_seen = expected ~= '' and sub(found, 1, #expected) == expected
    else
      as_seen = expected == '' and not strange[position]
    end
    if leased and leased[KEYS[position]] then deferred = true end
    if not as_seen then
      conflict = conflict or {}
      conflict[#conflict + 1] = strange[position] and -position or position
      conflict[#conflict + 1] = strange[position] or found
      -- An entity that was expected to be absent is found only once; contention needs existing entities.
      if expected ~= '' then conflict.lost = true end
    elseif new ~= '' then
      writes[written + 1], writes[written + 2] = KEYS[position], new
      written = written + 2
    end
  end
  if reply[group] then
    conflict = reply[group]
  elseif deferred then
    conflict = 0
  elseif conflict and conflict.lost then
    lost = true
    for at = first, position do
      if standing[at] then contested[#contested + 1] = KEYS[at] end
    end
  end
  local counted, number
  while limit < owners and tonumber(ARGV[limit]) == group do
    if not conflict then
      counted, number = counted or {}, (number or 0) + 1
      local set, least, greatest = KEYS[tonumber(ARGV[limit + 1])], ARGV[limit + 3], ARGV[limit + 4]
      local range = set .. least
      local there = members[range] or call('ZLEXCOUNT', set, least, greatest)
      if there < tonumber(ARGV[limit + 2]) then
        members[range] = there + 1
        counted[number] = range
      else
        conflict = {number}
      end
    end
    limit = limit + 5
  end
  if conflict then
    all_committed = false
    for surplus = written, mark + 1, -1 do writes[surplus] = nil end
    written = mark
    for at = 1, counted and #counted or 0 do members[counted[at]] = members[counted[at]] - 1 end
  end
  reply[group] = conflict or 1
end

if written > 0 then call('MSET', unpack(writes)) end

-- Most often all groups are committed, and nobody needs to know the group of an item.
local owner, at = owners, runs + 1
local function is_committed(item) return reply[tonumber(ARGV[item])] == 1 end
for _ = 1, tonumber(ARGV[runs]) do
  local position, width, count = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local key, name = KEYS[position], at + 3
  local first = position < first_list and name + width or name
  local last = first + width * count - 1
  if position < first_list then
    for value = first, last, width do
      owner = owner + 1
      if all_committed or is_committed(owner) then
        -- Calls with a fixed number of arguments are faster than those with a table.
        if width == 2 then
          call('XADD', key, '*', ARGV[name], ARGV[value], ARGV[name + 1], ARGV[value + 1])
        elseif width == 3 then
          call('XADD', key, '*', ARGV[name], ARGV[value], ARGV[name + 1], ARGV[value + 1],
            ARGV[name + 2], ARGV[value + 2])
        else
          call('XADD', key, '*', ARGV[name], ARGV[value])
        end
      end
    end
  else
    local command = position < first_set and 'RPUSH' or width == 2 and 'ZADD' or 'ZREM'
    if all_committed then
      call(command, key, unpack(ARGV, first, last))
    else
      local values = {}
      for item = 1, count do
        if is_committed(owner + item) then
          local value = first + width * (item - 1)
          for part = value, value + width - 1 do values[#values + 1] = ARGV[part] end
        end
      end
      if #values > 0 then call(command, key, unpack(values)) end
    end
    owner = owner + count
  end
  at = last + 1
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
