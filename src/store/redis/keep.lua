-- Stores an entry and gives its fill's lease back, if that is still ours.
-- KEYS: entry, lease. ARGV: entry or "" for none, its ms, lease's token or "",
-- ms for which the lease is to be nobody's ("0": anybody may take it at once).
-- Gives: replication id, "kept", "full" (no memory for it) or "released".
local outcome = 'released'
if ARGV[1] ~= '' then
  local reply = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  if reply.ok then
    outcome = 'kept'
  elseif string.find(reply.err, 'OOM ', 1, true) then
    outcome = 'full'
  else
    -- Fails alike, with the server's own words.
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  end
end
local lease = redis.call('GET', KEYS[2])
if lease and (ARGV[3] ~= '' and lease == ARGV[3] or lease == '' and outcome == 'kept') then
  redis.call('DEL', KEYS[2])
  if ARGV[4] ~= '0' then
    -- Allowed without memory left as well, after a script's first write.
    redis.call('SET', KEYS[2], '', 'PX', ARGV[4])
  end
end
return { replid, outcome }
