-- The namespace is the first upstream's that used it.
-- KEYS: owner; ARGV: upstream.
local state = redis.call('INFO', 'replication')
if not string.find(state, 'role:master', 1, true) then
  return redis.error_reply('READONLY this server is a replica')
end
redis.pcall('SET', KEYS[1], ARGV[1], 'NX')
return {string.match(state, 'master_replid:(%x+)'), redis.call('GET', KEYS[1])}
