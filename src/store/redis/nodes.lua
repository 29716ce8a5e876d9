-- A node's beat: it lives, and some of its notes are done with.
-- KEYS: set of nodes, own notes.
-- ARGV: node, ms that mean silence, what this script said the time was at the node's last beat or 0,
-- ids of notes to remove.
-- Gives: replication id, the time in ms, nodes that have been silent.
local silence = tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Deleting is allowed without memory left, and after a script's first write its others are:
-- a node mustn't seem dead because Redis is full. No note has an empty id.
redis.call('HDEL', KEYS[2], '', unpack(ARGV, 4))
redis.call('ZADD', KEYS[1], now, ARGV[1])

local silent = {}
-- Who hasn't heard itself for long knows nothing of others: the server may have been paused, or its clock set.
if math.abs(now - tonumber(ARGV[3])) < silence then
  silent = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - silence), 'LIMIT', 0, 8)
  if #silent == 0 then
    -- Last heard before the clock was set back, or by a master whose clock was ahead.
    silent = redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', now + silence), '+inf', 'LIMIT', 0, 8)
  end
end
return { replid, string.format('%.0f', now), unpack(silent) }
