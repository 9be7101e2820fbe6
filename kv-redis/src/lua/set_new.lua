-- Sets an entry unconditionally, and adds it to the index.
-- KEYS: the entry, and its index if there is one. ARGV: the stored bytes, the deadline, the member of the index.
-- A script is not rolled back, so the command that can fail comes first.
if KEYS[2] then redis.call('ZADD', KEYS[2], 0, ARGV[3]) end
if ARGV[2] == 'never' then
  redis.call('SET', KEYS[1], ARGV[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PXAT', ARGV[2])
end
return 1
