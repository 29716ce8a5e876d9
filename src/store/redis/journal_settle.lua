-- Ends a claimed lane's oldest writes, all or none.
-- ARGV: channel; lane; claim's number; "1" if nothing older of the caller may be queued elsewhere; and of each
-- write: its number, state (A, S, R), attempts with reason and detail, echo or "".
-- Gives: replication id, "done", "lost" or "not_oldest", change.
local lane, number = ARGV[2], ARGV[3]
local caller, row = caller_of(lane), string.sub(lane, 1, 16)
local count = (#ARGV - 4) / 4
local state = call('HGET', lanes, lane)
if not state or string.sub(state, 1, 9) ~= 'C' .. number then
  return { replid, 'lost', change }
end
if count == 0 or read('>I8', ARGV[5]) < next_seq and not call('HGET', entries, ARGV[5]) then
  -- Ended under this very claim: the client library asks again, because the answer was lost.
  return { replid, 'done', change }
end
local oldest = beginning(order, lane, 8, count)
local oldest_of_caller = ARGV[4] == '1' and beginning(callers, caller, 8, count)
for index = 1, count do
  if oldest[index] ~= lane .. ARGV[4 * index + 1] then
    return { replid, 'lost', change }
  end
end
for index = 1, count do
  if oldest_of_caller and oldest_of_caller[index] ~= caller .. ARGV[4 * index + 1] then
    return { replid, 'not_oldest', change }
  end
end

clock = math.max(clock, time[1] * 1000000 + time[2])
local most = { A = 1000000, S = 100000, R = 100000 }
local cleared = {}
-- Removes what ended too long ago, dead letters aside, and what is too many.
local function clear(kind)
  local stream = streams[kind]
  local too_many = call('XLEN', stream) > most[kind]
  if kind == 'R' and not too_many then
    return
  end
  for _, found in ipairs(call('XRANGE', stream, '-', '+', 'COUNT', 4)) do
    local ended = found[2][2]
    if not too_many and clock - read('>I8', ended, 94) <= 86400000000 then
      return
    end
    call('XDEL', stream, found[1])
    call('HDEL', ids, string.sub(ended, 9, 24))
    if kind == 'R' then
      cleared[#cleared + 1] = string.sub(ended, 9, 24)
      return
    end
    too_many = false
  end
end

for index = 1, count do
  local seq, kind, told_of, echo = unpack(ARGV, 4 * index + 1, 4 * index + 4)
  local entry, record = call('HGET', entries, seq), call('HGET', records, seq)
  -- Removing comes first: it is allowed without memory left, and what follows it is then.
  call('HDEL', entries, seq)
  call('HDEL', records, seq)
  call('HDEL', attempts, seq)
  call('ZREM', order, lane .. seq)
  call('ZREM', callers, caller .. seq)
  local event = pack('>I8', next_event)
  local text = string.format('%.0f', next_event)
  next_event = next_event + 1
  local kept = kind == 'R' and record or part(record, 1)
  local ended = seq .. entry .. pack('>I8', clock) .. told_of .. kept
  call('XADD', streams[kind], text .. '-0', 'w', ended)
  call('HSET', ids, string.sub(entry, 1, 16), kind .. event)
  tell('E', event_of(ended, kind, event))
  if not beginning(order, row, 24, 1)[1] then
    call('HDEL', echoes, row)
  elseif echo ~= '' then
    call('HSET', echoes, row, seq .. echo)
  end
  clear(kind)
end
wake_oldest(caller)
commit()
return { replid, 'done', change, cleared }
