-- KEYS: the entry, and its index where there is one. ARGV: what to store, deadline, member of the index.
-- What can fail comes first, since a script is not rolled back.
if KEYS[2] then redis.call('ZADD', KEYS[2], 0, ARGV[3]) end
if ARGV[2] == 'never' then
  redis.call('SET', KEYS[1], ARGV[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PXAT', ARGV[2])
end
return 1
