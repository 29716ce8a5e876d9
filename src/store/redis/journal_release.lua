-- Gives a claimed lane back.
-- ARGV: channel; lane; claim's number; what it waits for: N nothing, U a moment, K a moment and its attempt
-- counts, O to be its caller's oldest, T a token, P an operator; ms to that moment; rights; empty parked lanes at most.
-- Gives: replication id, "done" or "lost", change.
local lane, number, wait = ARGV[2], ARGV[3], ARGV[4]
local caller = caller_of(lane)
local state = call('HGET', lanes, lane)
if not state or string.sub(state, 1, 9) ~= 'C' .. number then
  return { replid, 'lost', change }
end
local _, node, _, lingers_until = read('>I8c8I8I8', state, 2)
call('ZREM', claims, node .. lane)
local head = head_of(lane)
if wait == 'P' and (head or call('HLEN', lanes) <= tonumber(ARGV[7]) + call('HLEN', entries)) then
  set_lane(lane, 'P')
elseif not head then
  set_lane(lane, '')
elseif wait == 'O' then
  set_lane(lane, 'O')
  wake_oldest(caller)
elseif wait == 'T' then
  wait_until(lane, 'T', now + ARGV[5], ARGV[6])
elseif wait == 'U' or wait == 'K' then
  if wait == 'K' then
    call('HINCRBY', attempts, head, 1)
  end
  wait_until(lane, 'B', now + ARGV[5])
elseif lingers_until > now then
  wait_until(lane, 'L', lingers_until)
else
  make_ready(lane, head)
end
commit()
return { replid, 'done', change }
