-- The namespace is the first upstream's that used it.
-- KEYS: owner. ARGV: upstream. Gives: replication id, the owner or nil where there is no memory for one.
redis.pcall('SET', KEYS[1], ARGV[1], 'NX')
return { replid, redis.call('GET', KEYS[1]) }
