-- A caller's queued writes, in order. ARGV: channel, caller, how many at most.
-- Gives: replication id; write, entry and lane's state ("" for none) of each.
local found = { replid }
for _, member in ipairs(beginning(callers, ARGV[2], 8, ARGV[3])) do
  local seq = string.sub(member, 17)
  local entry = call('HGET', entries, seq)
  found[#found + 1] = seq
  found[#found + 1] = entry
  found[#found + 1] = call('HGET', lanes, lane_of(entry)) or ''
end
return found
