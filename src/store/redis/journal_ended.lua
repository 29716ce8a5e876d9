-- What ended so, in the order of the events. ARGV: channel; A, S or R; the first event that is wanted; how many.
-- Gives: replication id; event's number and row of each.
local found = { replid }
for _, row in ipairs(call('XRANGE', streams[ARGV[2]], ARGV[3] .. '-0', '+', 'COUNT', ARGV[4])) do
  found[#found + 1] = string.match(row[1], '%d+')
  found[#found + 1] = row[2][2]
end
return found
