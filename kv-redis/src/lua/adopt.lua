-- KEYS: keys of entries, and behind them their index. ARGV: the member of each.
-- Puts into the index what is there and is an entry, and tells how many were not in it.
local adopted = 0
for number = 1, #KEYS - 1 do
  if redis.pcall('GETRANGE', KEYS[number], 0, 0) == '\161' then
    adopted = adopted + redis.call('ZADD', KEYS[#KEYS], 0, ARGV[number])
  end
end
return adopted
