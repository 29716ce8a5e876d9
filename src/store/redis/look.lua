-- Reads an entry and generations. Writes nothing.
-- KEYS: the entry or not, then generations.
-- Gives: replication id, each key's value or nil.
local values = redis.call('MGET', unpack(KEYS))
table.insert(values, 1, replid)
return values
