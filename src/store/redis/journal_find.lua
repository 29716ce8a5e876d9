-- How a write is. ARGV: channel; id; "1" if it must not be appended any more where it isn't known.
-- Gives: replication id; "" or state (Q, A, S, R); and of what is queued: write, entry, attempts, label;
-- of what ended: event's number, row.
local place = call('HGET', ids, ARGV[2])
if not place or place == '' then
  if ARGV[3] == '1' then
    for _, old in ipairs(call('ZRANGEBYSCORE', doubt, '-inf', now - 3600000, 'LIMIT', 0, 16)) do
      call('ZREM', doubt, old)
      if call('HGET', ids, old) == '' then
        call('HDEL', ids, old)
      end
    end
    call('HSET', ids, ARGV[2], '')
    call('ZADD', doubt, now, ARGV[2])
  end
  return { replid, '' }
end
local state, number = string.sub(place, 1, 1), string.sub(place, 2)
if state == 'Q' then
  local record = call('HGET', records, number)
  return { replid, state, number, call('HGET', entries, number), call('HGET', attempts, number) or '0', part(record, 1) }
end
local row = ended_at(place)
if not row then
  return { replid, '' }
end
return { replid, state, number, row }
