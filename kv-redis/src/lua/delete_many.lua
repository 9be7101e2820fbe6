-- Deletes entries. Returns for each entry 1 if it existed, else 0.
-- KEYS: the entries, then their index if there is one.
-- ARGV: 1 if there is an index, then the member of the index for each entry.
local index = ARGV[1] == '1' and KEYS[#KEYS]
local deleted = {}
for number = 1, #KEYS - (index and 1 or 0) do
  if index then redis.call('ZREM', index, ARGV[number + 1]) end
  deleted[number] = redis.call('UNLINK', KEYS[number])
end
return deleted
