-- Removes the members of the index whose entries no longer exist. Returns the number of removed members.
-- KEYS: the entries, then their index. ARGV: the member of the index for each entry.
local pruned = 0
for number = 1, #KEYS - 1 do
  if redis.call('EXISTS', KEYS[number]) == 0 then
    pruned = pruned + redis.call('ZREM', KEYS[#KEYS], ARGV[number])
  end
end
return pruned
