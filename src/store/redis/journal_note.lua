-- Notes that a claimed lane's write is about to be sent: who takes over leaves it alone for a while.
-- ARGV: channel, lane, claim's number, ms. Gives: replication id, "done" or "lost", change.
local lane, number = ARGV[2], ARGV[3]
local state = call('HGET', lanes, lane)
if not state or string.sub(state, 1, 9) ~= 'C' .. number then
  return { replid, 'lost', change }
end
call('HSET', lanes, lane, string.sub(state, 1, 17) .. pack('>I8', now + ARGV[4]) .. string.sub(state, 26))
return { replid, 'done', change }
