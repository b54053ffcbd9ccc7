-- The answer to XINFO STREAM without the first and the last entry, which may be large.
-- KEYS  1  the stream
-- Reply: members of XINFO STREAM by name; the first and the last entry as ids only.
-- Error: that of XINFO STREAM, e.g. for a missing key.
local info = redis.pcall('XINFO', 'STREAM', KEYS[1])
if info.err then return info end
local of = {}
for at = 1, #info, 2 do of[info[at]] = info[at + 1] end
local function id(entry) return entry and {entry[1]} end
return {
  'length', of.length,
  'last-generated-id', of['last-generated-id'],
  'entries-added', of['entries-added'] or false,
  'first-entry', id(of['first-entry']) or false,
  'last-entry', id(of['last-entry']) or false,
}
