-- Lets a fill's lease last longer, if it is still ours.
-- KEYS: lease. ARGV: its token, ms from now.
-- Gives: replication id.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return { replid }
