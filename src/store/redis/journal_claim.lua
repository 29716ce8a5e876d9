-- Claims lanes that are ready, in turn by caller, each caller's oldest heads first.
-- ARGV: channel; node (8 bytes); how many; ms that are added to the time; how many of one caller's may be in
-- flight on this node while others have something ready; writes and bytes of one claim at most;
-- then callers and how many of each are in flight.
-- Gives: replication id; change; of each lane: lane, claim's number, head's attempts, echo or "",
-- and of each of its writes: write, entry, label and record.
local node, most, share = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[5])
local most_members, most_bytes = tonumber(ARGV[6]), tonumber(ARGV[7])
local in_flight = {}
for index = 8, #ARGV, 2 do
  in_flight[ARGV[index]] = tonumber(ARGV[index + 1])
end
local changed = false

for _, lane in ipairs(call('ZRANGEBYSCORE', due, '-inf', now + ARGV[4], 'LIMIT', 0, 1000)) do
  stop_waiting(lane, call('HGET', lanes, lane) or '')
  make_ready(lane, head_of(lane))
  changed = true
end

local function take(caller, head)
  local first = call('HGET', entries, head)
  local lane = lane_of(first)
  -- A master that has lost the last claims gives their numbers again, as a rule to others.
  local number = next_claim * 256 + string.byte(node, 8)
  next_claim = next_claim + 1
  set_lane(lane, 'C' .. pack('>I8c8I8I8', number, node, 0, 0))
  call('ZADD', claims, 0, node .. lane)
  local echo = call('HGET', echoes, string.sub(lane, 1, 16))
  -- Upstream's answer about a write that was accepted before the head.
  echo = echo and read('>I8', echo) < read('>I8', head) and string.sub(echo, 9) or ''
  local taken = { lane, pack('>I8', number), call('HGET', attempts, head) or '0', echo }
  local bytes = 0
  for _, member in ipairs(beginning(order, lane, 8, most_members)) do
    local seq = string.sub(member, 33)
    local record = call('HGET', records, seq)
    bytes = bytes + #record
    if #taken > 4 and bytes > most_bytes then
      break
    end
    taken[#taken + 1] = seq
    taken[#taken + 1] = call('HGET', entries, seq)
    taken[#taken + 1] = record
  end
  return taken
end

local taken, passed_over = {}, 0
while #taken < most do
  local caller = call('ZPOPMIN', turns)[1]
  if not caller then
    break
  end
  changed = true
  local heads = beginning(ready, caller, 8, 2)
  local others = call('ZCARD', turns)
  if #heads > 0 and (in_flight[caller] or 0) >= share and others > 0 then
    take_turn(caller)
    passed_over = passed_over + 1
    if passed_over >= others + 1 then
      break
    end
  elseif #heads > 0 then
    passed_over = 0
    in_flight[caller] = (in_flight[caller] or 0) + 1
    call('ZREM', ready, heads[1])
    if #heads > 1 then
      take_turn(caller)
    end
    taken[#taken + 1] = take(caller, string.sub(heads[1], 17))
  end
end
if #taken > 0 then
  -- Nobody would find the claims of a node that isn't known to live.
  call('ZADD', nodes, now, node)
end
if changed then
  commit()
end
return { replid, change, taken }
