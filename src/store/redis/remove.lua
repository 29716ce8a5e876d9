-- Removes an entry and says so on the bus.
-- KEYS: entry. ARGV: channel, message. Gives: replication id.
local info = redis.call('INFO', 'replication')
if not string.find(info, 'role:master', 1, true) then
  return redis.error_reply('READONLY This server is not a master')
end
local _, before = string.find(info, 'master_replid:', 1, true)
local replid = string.sub(info, before + 1, before + 40)
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[1], ARGV[2])
return { replid }
