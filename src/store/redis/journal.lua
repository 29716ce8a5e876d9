-- Begins every script of the journal: what it is made of, and how it changes.
-- KEYS: all that the journal has, always, in this order. ARGV[1]: the channel on which its changes are told.
local marks, entries, records, ids, order, callers, lanes, ready, turns, due, tokens, claims, nodes, attempts,
  echoes, ahead, applied, superseded, rejected, doubt, meta = unpack(KEYS)
local call, pack, read = redis.call, struct.pack, struct.unpack
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- The next numbers of writes, events and claims, the clock in µs, and how often the journal has changed.
-- (Claims begin with the time: where everything was lost, old ones are nobody's.)
local next_seq, next_event, next_claim, clock, change = 1, 1, now, 0, 0
local had = call('GET', marks)
if had then
  next_seq, next_event, next_claim, clock, change = read('>I8I8I8I8I8', had)
end

-- What the nodes are told of this change.
local told = {}
local function tell(...)
  for _, part in ipairs({ ... }) do
    told[#told + 1] = part
  end
end

local function commit()
  change = change + 1
  call('SET', marks, pack('>I8I8I8I8I8', next_seq, next_event, next_claim, clock, change))
  call('PUBLISH', ARGV[1], string.sub(replid, 1, 32) .. pack('>I8', change) .. table.concat(told))
end

-- The first members that begin with `prefix`, which `rest` bytes follow.
local function beginning(set, prefix, rest, most)
  return call('ZRANGEBYLEX', set, '[' .. prefix, '[' .. prefix .. string.rep('\255', rest), 'LIMIT', 0, most)
end

-- A part of `bytes` that says how long it is, from `at` on, with its length.
local function part(bytes, at)
  return string.sub(bytes, at, at + 3 + read('>I4', bytes, at))
end

local function caller_of(lane)
  return string.sub(lane, 17, 32)
end

-- What a lane's state says: 'C' it is claimed: number, node, ms until which a write that was sent is left alone,
-- ms until which it lingers afterwards; 'L' it lingers, 'B' it backs off: ms; 'O' it waits for an older write;
-- 'T' it waits for a token: ms, rights; 'P' it is parked. None: it is ready, or empty.
local function set_lane(lane, state)
  if state == '' then
    call('HDEL', lanes, lane)
  else
    call('HSET', lanes, lane, state)
  end
  tell('L', lane, string.char(#state), state)
end

local turn = 0
local function take_turn(caller)
  turn = turn + 1
  call('ZADD', turns, 'NX', change + turn / 1000000, caller)
end

local function wait_until(lane, kind, ms, rights)
  set_lane(lane, kind .. pack('>I8', ms) .. (rights or ''))
  call('ZADD', due, ms, lane)
  if rights then
    call('ZADD', tokens, 0, rights .. lane)
  end
end

-- Where a write is that ended: the stream of its state, and its number there.
local streams = { A = applied, S = superseded, R = rejected }
local function ended_at(place)
  local number = string.format('%.0f', (read('>I8', place, 2)))
  local row = call('XRANGE', streams[string.sub(place, 1, 1)], number, number)[1]
  return row and row[2][2]
end

