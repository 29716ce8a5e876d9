-- Prepares a fill: takes its lease, reads the entry, makes generations that are absent.
-- KEYS: entry and lease if ARGV[1] is "1", then generations.
-- ARGV: "1" or "0", lease's token or "", its ms, ms that generations last at least, 8 random bytes.
-- Gives: replication id; lease: 0 not asked for, 1 granted, 2 taken, 3 nobody's (no memory for it, or the
-- last answer could not be stored); entry or nil if ARGV[1] is "1"; each generation or nil, empty while held.
local with_entry, token, lease_ms = ARGV[1] == '1', ARGV[2], ARGV[3]
-- The time as well, since a client may send a script twice: no generation ever comes back.
local time = redis.call('TIME')
local fresh = ARGV[5] .. struct.pack('>I4I4', time[1], time[2])
local least_ms = tonumber(ARGV[4])
local full = false

-- Whether the value was set. That there is no memory for it is an answer and no failure.
local function set(...)
  local reply = redis.pcall('SET', ...)
  if reply and reply.err then
    if not string.find(reply.err, 'OOM ', 1, true) then
      -- Fails alike, with the server's own words.
      redis.call('SET', ...)
    end
    full = true
    return false
  end
  return reply ~= false
end

local values = { replid, 0 }
local first = 1
if with_entry then
  if token ~= '' then
    local granted = set(KEYS[2], token, 'NX', 'PX', lease_ms)
    local is_open = full or not granted and redis.call('GET', KEYS[2]) == ''
    values[2] = is_open and 3 or granted and 1 or 2
  end
  -- While another fills it, it isn't there or isn't fresh.
  -- (MGET: what is no string isn't there.)
  values[3] = values[2] ~= 2 and redis.call('MGET', KEYS[1])[1]
  first = 3
end
if first > #KEYS then
  return values
end

for index, generation in ipairs(redis.call('MGET', unpack(KEYS, first))) do
  local key = KEYS[first + index - 1]
  if not generation then
    -- Twice as long as needed: the next fills find it long enough and write nothing.
    if not full and set(key, fresh, 'PX', least_ms * 2) then
      generation = fresh
    end
  elseif generation ~= '' then
    local left = redis.call('PTTL', key)
    if left >= 0 and left < least_ms then
      redis.call('PEXPIRE', key, least_ms * 2)
    end
  end
  values[#values + 1] = generation
end
return values
