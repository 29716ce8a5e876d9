-- Labels and records of queued writes. ARGV: channel, writes. Gives: replication id, each or nil.
return { replid, unpack(call('HMGET', records, unpack(ARGV, 2))) }
