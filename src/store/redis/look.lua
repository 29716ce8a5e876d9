-- Reads an entry and generations. Writes nothing.
-- KEYS: the entry or not, then generations.
-- Gives: replication id, each key's value or nil.
local info = redis.call('INFO', 'replication')
if not string.find(info, 'role:master', 1, true) then
  return redis.error_reply('READONLY This server is not a master')
end
local _, before = string.find(info, 'master_replid:', 1, true)
local replid = string.sub(info, before + 1, before + 40)
local values = redis.call('MGET', unpack(KEYS))
table.insert(values, 1, replid)
return values
