-- Ends of a caller's writes. ARGV: channel; caller, or "" for everybody's; the first event that is wanted; how many of
-- each state are looked at.
-- Gives: replication id; up to which event all were looked at, "" if all were; the events.
local caller, first, most = ARGV[2], ARGV[3], tonumber(ARGV[4])
local upto, found = '', {}
for kind, stream in pairs(streams) do
  local looked, from = 0, first .. '-0'
  repeat
    local rows = call('XRANGE', stream, from, '+', 'COUNT', math.min(100, most - looked))
    for _, row in ipairs(rows) do
      local number = string.match(row[1], '%d+')
      from = '(' .. number .. '-0'
      looked = looked + 1
      if caller == '' or string.sub(row[2][2], 25, 40) == caller then
        found[#found + 1] = event_of(row[2][2], kind, pack('>I8', number))
      end
      if looked == most and (upto == '' or tonumber(number) < tonumber(upto)) then
        upto = number
      end
    end
  until #rows == 0 or looked == most
end
return { replid, upto, found }
