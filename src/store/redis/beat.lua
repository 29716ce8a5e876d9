-- Proves that this server is the master, that it takes writes, and that all it
-- published before has been sent: the answer comes after that on the bus's connection.
-- KEYS: a key that nobody sets, in a slot of this master. Gives: replication id.
local info = redis.call('INFO', 'replication')
if not string.find(info, 'role:master', 1, true) then
  return redis.error_reply('READONLY This server is not a master')
end
-- Changes nothing; refused where a write would be: too few replicas, a disk that fails, a lost Cluster.
redis.call('DEL', KEYS[1])
return { string.match(info, 'master_replid:(%x+)') }
