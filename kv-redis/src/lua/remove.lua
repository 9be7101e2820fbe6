-- KEYS: the entries, and behind them their index where there is one.
-- ARGV: whether there is an index, and the member of each entry. Gives 1 for each that was there.
local index = ARGV[1] == '1' and KEYS[#KEYS]
local removed = {}
for number = 1, #KEYS - (index and 1 or 0) do
  if index then redis.call('ZREM', index, ARGV[number + 1]) end
  removed[number] = redis.call('UNLINK', KEYS[number])
end
return removed
