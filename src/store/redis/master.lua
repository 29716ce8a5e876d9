-- Begins every script. Only a master's answer counts, and it says which master it is.
local info = redis.call('INFO', 'replication')
if not string.find(info, 'role:master', 1, true) then
  return redis.error_reply('READONLY This server is not a master')
end
local _, before = string.find(info, 'master_replid:', 1, true)
local replid = string.sub(info, before + 1, before + 40)

