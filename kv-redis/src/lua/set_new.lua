-- Sets an entry unconditionally, and adds its key to the index.
-- KEYS: the entry, and its index if there is one. ARGV: the stored bytes, the deadline, the member of the index.
--
-- The server does not roll back a script that fails. So the key is added to the index first, and no entry is ever
-- missing there.
if KEYS[2] then redis.call('ZADD', KEYS[2], 0, ARGV[3]) end
if ARGV[2] == 'never' then
  redis.call('SET', KEYS[1], ARGV[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PXAT', ARGV[2])
end
return 1
