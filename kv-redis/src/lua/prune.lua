-- KEYS: the entries, and behind them their index. ARGV: the member of each entry.
-- Takes out of the index what is not there any more, and tells how many there were.
local pruned = 0
for number = 1, #KEYS - 1 do
  if redis.call('EXISTS', KEYS[number]) == 0 then
    pruned = pruned + redis.call('ZREM', KEYS[#KEYS], ARGV[number])
  end
end
return pruned
