-- KEYS: the entries, and behind them their index where there is one.
-- ARGV: whether there is an index; for each entry what to store, deadline, member of the index.
local index = ARGV[1] == '1' and KEYS[#KEYS]
local at = 2
for number = 1, #KEYS - (index and 1 or 0) do
  local deadline = ARGV[at + 1]
  if index then
    if deadline == 'gone' then redis.call('ZREM', index, ARGV[at + 2]) else redis.call('ZADD', index, 0, ARGV[at + 2]) end
  end
  put(KEYS[number], ARGV[at], deadline, false)
  at = at + 3
end
return 1
