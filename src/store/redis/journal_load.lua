-- A page of what nodes keep in memory.
-- ARGV: channel; "entries" or "lanes"; cursor, "0" at first; about how many.
-- Gives: replication id, change, the last event's number, next cursor ("0": that was all), name and value of each.
local found = call('HSCAN', ARGV[2] == 'lanes' and lanes or entries, ARGV[3], 'COUNT', ARGV[4])
return { replid, change, string.format('%.0f', next_event - 1), found[1], found[2] }
