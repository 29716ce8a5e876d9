-- Appends a write, if it may be.
-- ARGV: channel; id, caller, table, row (16 bytes each) and "\1" for an insert; label's length, label, record;
-- last write of the lane that is known, or ""; "1" if it has to be the row's only one; ms that it lingers;
-- limits: of all, of one caller; the earliest timestamp: s, µs.
-- Gives: replication id, what was decided, and of what is queued: write, times, change.
local head, body, after, alone = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local id, caller, row = string.sub(head, 1, 16), string.sub(head, 17, 32), string.sub(head, 49, 64)
local lane = row .. caller

local place = call('HGET', ids, id)
if place == '' then
  return { replid, 'cancelled' }
elseif place then
  local seq, entry = string.sub(place, 2), nil
  if string.sub(place, 1, 1) == 'Q' then
    entry = call('HGET', entries, seq)
  else
    local ended = ended_at(place)
    if ended then
      seq, entry = string.sub(ended, 1, 8), string.sub(ended, 9, 93)
    end
  end
  if not entry then
    return { replid, 'cancelled' }
  end
  return { replid, 'queued', seq, string.sub(entry, 66), change }
end

local last = call('ZREVRANGEBYLEX', order, '[' .. lane .. string.rep('\255', 8), '[' .. lane, 'LIMIT', 0, 1)[1]
if (last and string.sub(last, 33) or '') ~= after then
  return { replid, 'moved' }
elseif alone == '1' and beginning(order, row, 24, 1)[1] then
  return { replid, 'busy' }
elseif call('HLEN', entries) >= tonumber(ARGV[7]) then
  return { replid, 'full' }
elseif call('ZLEXCOUNT', callers, '[' .. caller, '[' .. caller .. string.rep('\255', 8)) >= tonumber(ARGV[8]) then
  return { replid, 'caller_full' }
end

-- The clock ticks with each write and never goes back; a row may be ahead of it. The year 10,000 has more µs
-- than a number here can count, so seconds and µs are apart.
clock = math.max(clock + 1, time[1] * 1000000 + time[2])
local s, us = math.floor(clock / 1000000), clock % 1000000
local clock_s, clock_us = s, us
local function raise(to_s, to_us)
  if to_s > s or to_s == s and to_us > us then
    s, us = to_s, to_us
  end
end
raise(tonumber(ARGV[9]), tonumber(ARGV[10]))
local was = call('HGET', ahead, row)
if was then
  local was_s, was_us = read('>I8I4', was)
  if was_us == 999999 then
    raise(was_s + 1, 0)
  else
    raise(was_s, was_us + 1)
  end
end

local seq, number = pack('>I8', next_seq), pack('>I8', next_event)
local times = pack('>I8I8I4', clock, s, us)
next_seq, next_event = next_seq + 1, next_event + 1
-- The first that changes anything is refused where there is no memory for it; then nothing has.
call('HSET', entries, seq, head .. times)
call('HSET', records, seq, body)
call('HSET', ids, id, 'Q' .. seq)
call('ZADD', order, 0, lane .. seq)
call('ZADD', callers, 0, caller .. seq)
tell('A', seq, head, times, number, part(body, 1))

if s > clock_s or us > clock_us and s == clock_s then
  call('HSET', ahead, row, pack('>I8I4', s, us))
  -- Now and then one is forgotten that the clock has passed, or that is one too many.
  local crowded = call('HLEN', ahead) > 100000
  local some = call('HRANDFIELD', ahead, 4, 'WITHVALUES')
  for index = 1, #some, 2 do
    local other_s = read('>I8', some[index + 1])
    if other_s < clock_s or crowded and some[index] ~= row and not beginning(order, some[index], 24, 1)[1] then
      call('HDEL', ahead, some[index])
    end
  end
elseif was then
  call('HDEL', ahead, row)
end

local lingers_until = ARGV[6] ~= '0' and now + ARGV[6] or 0
if not last or lingers_until > 0 then
  local state = call('HGET', lanes, lane)
  if not state then
    if not last and lingers_until > 0 then
      wait_until(lane, 'L', lingers_until)
    elseif not last then
      call('ZADD', ready, 0, caller .. seq)
      take_turn(caller)
    end
  elseif string.sub(state, 1, 1) == 'C' then
    -- Its holder gives it back; what came meanwhile may linger then.
    if not last or read('>I8', state, 26) == 0 then
      set_lane(lane, string.sub(state, 1, 25) .. pack('>I8', lingers_until))
    end
  end
end
commit()
return { replid, 'queued', seq, times, change }
