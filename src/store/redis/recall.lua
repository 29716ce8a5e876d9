-- Reads some of a node's notes.
-- KEYS: its notes. ARGV: cursor, "0" at first; about how many.
-- Gives: replication id, next cursor ("0": that was all), id and note of each.
local info = redis.call('INFO', 'replication')
if not string.find(info, 'role:master', 1, true) then
  return redis.error_reply('READONLY This server is not a master')
end
local found = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
return { string.match(info, 'master_replid:(%x+)'), found[1], unpack(found[2]) }
