-- Makes the journal, or says whose it is.
-- ARGV: channel, upstream, format. Gives: replication id, upstream, format.
-- Who may not publish is told so before anything has changed.
call('PUBLISH', ARGV[1], '')
call('HSETNX', meta, 'upstream', ARGV[2])
call('HSETNX', meta, 'format', ARGV[3])
return { replid, call('HGET', meta, 'upstream'), call('HGET', meta, 'format') }
