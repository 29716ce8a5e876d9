-- Reads an entry and generations. Writes nothing.
-- KEYS: the entry or not, then generations.
-- Gives: replication id, each key's value or nil.
return { replid, unpack(redis.call('MGET', unpack(KEYS))) }
