-- Reads some of a node's notes.
-- KEYS: its notes. ARGV: cursor, "0" at first; about how many.
-- Gives: replication id, next cursor ("0": that was all), id and note of each.
local found = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
return { replid, found[1], unpack(found[2]) }
