-- The size of a stream and the ids at its ends. XINFO STREAM alone would send the whole entries.
-- KEYS  1                        the stream
-- Reply: length, entries ever added or nil before Redis 7.0, first id, last id; "0-0" if it is empty.
-- Error: of XINFO STREAM, e.g. that there is no such key.
local info = redis.pcall('XINFO', 'STREAM', KEYS[1])
if info.err then return info end
local of = {}
for at = 1, #info, 2 do of[info[at]] = info[at + 1] end
local function id(entry) return entry and entry[1] or '0-0' end
return {of.length, of['entries-added'] or false, id(of['first-entry']), id(of['last-entry'])}
