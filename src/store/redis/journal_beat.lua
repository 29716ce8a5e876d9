-- A node lives; it may take what others held that have been silent.
-- ARGV: channel; node (8 bytes); ms that mean silence, or "" where this node can't judge it.
-- Gives: replication id, change, time in ms, how many lanes the node holds, how many it took from others.
local node, silence = ARGV[2], tonumber(ARGV[3])
-- Nothing by this name; without memory left what follows is allowed then.
call('ZREM', nodes, '')
call('ZADD', nodes, now, node)
local taken = 0
if silence then
  local silent = call('ZRANGEBYSCORE', nodes, '-inf', now - silence, 'LIMIT', 0, 8)
  if #silent == 0 then
    -- Last heard before the clock was set back, or by a master whose clock was ahead.
    silent = call('ZRANGEBYSCORE', nodes, now + silence + 1, '+inf', 'LIMIT', 0, 8)
  end
  for _, other in ipairs(silent) do
    local held = other ~= node and beginning(claims, other, 32, 200) or {}
    for _, claim in ipairs(held) do
      abandon(claim)
    end
    if other ~= node and #held < 200 then
      call('ZREM', nodes, other)
    end
    taken = taken + #held
  end
end
if taken > 0 then
  commit()
end
local held = call('ZLEXCOUNT', claims, '[' .. node, '[' .. node .. string.rep('\255', 32))
return { replid, change, now, held, taken }
