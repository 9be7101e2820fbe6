-- Adds the keys of existing entries to their index. Returns the number of keys that were missing there. An entry begins
-- with the byte 161; other values are foreign.
-- KEYS: the entries, then their index. ARGV: the member of the index for each entry.
local added = 0
for number = 1, #KEYS - 1 do
  if redis.pcall('GETRANGE', KEYS[number], 0, 0) == '\161' then
    added = added + redis.call('ZADD', KEYS[#KEYS], 0, ARGV[number])
  end
end
return added
