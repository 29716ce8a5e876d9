-- Makes every entry that carries one of these generations unusable and says so on the bus.
-- KEYS: generations. ARGV: ms to hold them, 0 for not at all; channel; message.
-- A generation that is held is an empty string: it matches no entry, and no fill replaces it.
-- Gives: replication id.
local hold = tonumber(ARGV[1])
local values = redis.call('MGET', unpack(KEYS))
if hold == 0 then
  local gone = {}
  for index, key in ipairs(KEYS) do
    -- A hold that another write needs stays.
    if values[index] and values[index] ~= '' then
      gone[#gone + 1] = key
    end
  end
  if #gone > 0 then
    redis.call('DEL', unpack(gone))
  end
else
  -- Deleting is allowed without memory left, and after a script's first write
  -- its others are: so a hold is kept then as well.
  local held = {}
  for index, key in ipairs(KEYS) do
    held[index] = values[index] == '' and redis.call('PTTL', key) or hold
  end
  redis.call('DEL', unpack(KEYS))
  for index, key in ipairs(KEYS) do
    local ms = math.max(hold, held[index])
    local reply = redis.pcall('SET', key, '', 'PX', ms)
    -- Without memory for the hold, no fill has any for a generation.
    if reply.err and not string.find(reply.err, 'OOM ', 1, true) then
      redis.call('SET', key, '', 'PX', ms)
    end
  end
end
redis.call('PUBLISH', ARGV[2], ARGV[3])
return { replid }
