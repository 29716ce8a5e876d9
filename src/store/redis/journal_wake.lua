-- Ends what lanes wait for.
-- ARGV: channel; "linger", "token" or "parked"; writes whose lanes linger, rights, or a lane.
-- Gives: replication id, how many lanes go on, change.
local woken = 0
if ARGV[2] == 'linger' then
  for index = 3, #ARGV do
    local entry = call('HGET', entries, ARGV[index])
    local lane = entry and lane_of(entry)
    local state = lane and call('HGET', lanes, lane) or ''
    if string.sub(state, 1, 1) == 'L' then
      stop_waiting(lane, state)
      make_ready(lane, head_of(lane))
      woken = woken + 1
    elseif string.sub(state, 1, 1) == 'C' and read('>I8', state, 26) > 0 then
      set_lane(lane, string.sub(state, 1, 25) .. pack('>I8', 0))
      woken = woken + 1
    end
  end
elseif ARGV[2] == 'token' then
  for _, waiting in ipairs(beginning(tokens, ARGV[3], 32, 1000)) do
    local lane = string.sub(waiting, 17)
    stop_waiting(lane, 'T' .. string.rep('\0', 8) .. ARGV[3])
    make_ready(lane, head_of(lane))
    woken = woken + 1
  end
elseif call('HGET', lanes, ARGV[3]) == 'P' then
  make_ready(ARGV[3], head_of(ARGV[3]))
  woken = 1
end
if woken > 0 then
  commit()
end
return { replid, woken, change }
