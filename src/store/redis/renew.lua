-- Lets a fill's lease last longer, if it is still ours.
-- KEYS: lease. ARGV: its token, ms from now.
-- Gives: replication id.
local info = redis.call('INFO', 'replication')
if not string.find(info, 'role:master', 1, true) then
  return redis.error_reply('READONLY This server is not a master')
end
local _, before = string.find(info, 'master_replid:', 1, true)
local replid = string.sub(info, before + 1, before + 40)
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return { replid }
