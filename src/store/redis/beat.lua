-- Proves that this server is the master, that it takes writes, and that all it
-- published before has been sent: the answer comes after that on the bus's connection.
-- KEYS: a key that nobody sets, in a slot of this master. Gives: replication id.

-- Changes nothing; refused where a write would be: too few replicas, a disk that fails, a lost Cluster.
redis.call('DEL', KEYS[1])
return { replid }
