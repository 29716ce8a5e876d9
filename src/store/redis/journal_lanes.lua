-- What the scripts have in common that change lanes, or read what ended.
-- An entry begins with id, caller, table, row, 16 bytes each.
local function lane_of(entry)
  return string.sub(entry, 49, 64) .. string.sub(entry, 17, 32)
end

-- The oldest write of a lane.
local function head_of(lane)
  local first = beginning(order, lane, 8, 1)[1]
  return first and string.sub(first, 33)
end

local function make_ready(lane, head)
  set_lane(lane, '')
  if head then
    call('ZADD', ready, 0, caller_of(lane) .. head)
    take_turn(caller_of(lane))
  end
end

-- A lane that waited for a moment waits for it no longer.
local function stop_waiting(lane, state)
  call('ZREM', due, lane)
  if string.sub(state, 1, 1) == 'T' then
    call('ZREM', tokens, string.sub(state, 10, 25) .. lane)
  end
end

-- Lets the caller's oldest write go on, if its lane waits to be that.
local function wake_oldest(caller)
  local first = beginning(callers, caller, 8, 1)[1]
  if first then
    local head = string.sub(first, 17)
    local entry = call('HGET', entries, head)
    local lane = entry and lane_of(entry) or ''
    if call('HGET', lanes, lane) == 'O' then
      make_ready(lane, head)
    end
  end
end

-- Takes a claimed lane (node, lane) from its holder, who is gone or knows nothing of it. A write that was noted
-- as sent is left alone for a while.
local function abandon(claim)
  call('ZREM', claims, claim)
  local node, lane = string.sub(claim, 1, 8), string.sub(claim, 9)
  local state = call('HGET', lanes, lane) or ''
  if string.sub(state, 1, 1) ~= 'C' or string.sub(state, 10, 17) ~= node then
    return
  end
  local noted = read('>I8', state, 18)
  local head = head_of(lane)
  if head and noted > now then
    wait_until(lane, 'B', noted)
  else
    make_ready(lane, head)
  end
end

-- The event of a write that ended, of its row: write, entry, time, attempts, reason, detail, label, record.
local function event_of(row, state, number)
  local reason = part(row, 106)
  local detail = 106 + #reason
  local label = part(row, detail + 4 + read('>I4', row, detail))
  return string.sub(row, 1, 93) .. state .. number .. string.sub(row, 94, 101) .. reason .. label
end

