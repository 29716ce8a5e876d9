-- Gives back what a node holds by Redis's account and not by its own: an answer was lost.
-- ARGV: channel; node (8 bytes); "1" if it leaves; claims that it knows to hold: lanes, each with its number.
-- Gives: replication id, how many lanes were given back, change.
local node, leaves = ARGV[2], ARGV[3] == '1'
local known = {}
for index = 4, #ARGV, 2 do
  known[ARGV[index]] = ARGV[index + 1]
end
local given_back = 0
for _, claim in ipairs(beginning(claims, node, 32, 1000)) do
  local lane = string.sub(claim, 9)
  local state = call('HGET', lanes, lane) or ''
  if known[lane] ~= string.sub(state, 2, 9) then
    abandon(claim)
    given_back = given_back + 1
  end
end
if leaves then
  call('ZREM', nodes, node)
end
if given_back > 0 then
  commit()
end
return { replid, given_back, change }
