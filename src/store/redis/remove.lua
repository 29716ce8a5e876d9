-- Removes an entry and says so on the bus.
-- KEYS: entry. ARGV: channel, message. Gives: replication id.
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[1], ARGV[2])
return { replid }
