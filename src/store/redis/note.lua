-- Notes a write that is about to be forwarded.
-- KEYS: set of nodes, own notes. ARGV: node, id, note. Gives: replication id.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Deleting is allowed without memory left, and after a script's first write its others are.
redis.call('HDEL', KEYS[2], '')
-- Nobody would find the notes of a node that isn't in the set; and who is about to bury it finds it alive.
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
return { replid }
