-- Forgets a node with its notes, unless it has been heard again.
-- KEYS: set of nodes, its notes. ARGV: node, ms that mean silence; negative: it says goodbye itself.
-- Gives: replication id.
local silence = tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local heard = redis.call('ZSCORE', KEYS[1], ARGV[1])
if silence < 0 or not heard or math.abs(now - heard) > silence then
  redis.call('UNLINK', KEYS[2])
  redis.call('ZREM', KEYS[1], ARGV[1])
end
return { replid }
