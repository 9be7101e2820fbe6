-- Sets entries unconditionally.
-- KEYS: the entries, then their index if there is one.
-- ARGV: 1 if there is an index, then for each entry the stored bytes, the deadline and the member of the index.
local index = ARGV[1] == '1' and KEYS[#KEYS]
local at = 2
for number = 1, #KEYS - (index and 1 or 0) do
  local deadline = ARGV[at + 1]
  if deadline == 'expired' then
    if index then redis.call('ZREM', index, ARGV[at + 2]) end
    redis.call('UNLINK', KEYS[number])
  else
    if index then redis.call('ZADD', index, 0, ARGV[at + 2]) end
    if deadline == 'never' then
      redis.call('SET', KEYS[number], ARGV[at])
    else
      redis.call('SET', KEYS[number], ARGV[at], 'PXAT', deadline)
    end
  end
  at = at + 3
end
return 1
