-- Takes over pending entries of a group that are still as they were seen: with that consumer, delivered that often.
-- KEYS  1                    the stream
-- ARGV  group consumer       who takes them over
--       (id before holder deliveries)*   before: the id below; holder: the consumer that they are pending for
-- Reply: the entries, as XRANGE gives them. The fields of one that was deleted from the stream are nil: it stays
-- pending for its holder until it is acknowledged, where XCLAIM would drop it before anybody could say so.
local group, taken = ARGV[1], {}
for at = 3, #ARGV, 4 do
  local id, before, holder, deliveries = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  local seen = redis.call('XPENDING', KEYS[1], group, id, id, 1)[1]
  if seen and seen[2] == holder and seen[4] == deliveries then
    local read = redis.call('XREADGROUP', 'GROUP', group, holder, 'COUNT', 1, 'STREAMS', KEYS[1], before)
    local entry = read[1][2][1]
    if entry[2] then redis.call('XCLAIM', KEYS[1], group, ARGV[2], 0, id, 'JUSTID') end
    taken[#taken + 1] = entry
  end
end
return taken
