-- KEYS: the entries, and behind them their index where there is one.
-- ARGV: whether there is an index, the number of checks; for each its key, condition and what it wants; for each mutation
-- its key, member of the index, what to store, deadline ('delete' for none).
local index = ARGV[1] == '1' and KEYS[#KEYS]
local first = 3
for number = 1, tonumber(ARGV[2]) do
  local current, problem = read(KEYS[tonumber(ARGV[first])])
  if problem then return problem end
  if not holds(current, ARGV[first + 1], ARGV[first + 2]) then return { 0, number - 1 } end
  first = first + 3
end
-- Whatever can fail comes before the first write, since a script is not rolled back.
for at = first, #ARGV, 4 do
  if ARGV[at + 3] == 'keep' then
    local _, problem = read(KEYS[tonumber(ARGV[at])])
    if problem then return problem end
  end
end
if index then
  for at = first, #ARGV, 4 do
    local deadline = ARGV[at + 3]
    if deadline ~= 'delete' and deadline ~= 'gone' then redis.call('ZADD', index, 0, ARGV[at + 1]) end
  end
end
for at = first, #ARGV, 4 do
  local key, deadline = KEYS[tonumber(ARGV[at])], ARGV[at + 3]
  if deadline == 'delete' then
    redis.call('UNLINK', key)
  else
    put(key, ARGV[at + 2], deadline, deadline == 'keep' and read(key))
  end
end
if index then
  for at = first, #ARGV, 4 do
    if redis.call('EXISTS', KEYS[tonumber(ARGV[at])]) == 0 then redis.call('ZREM', index, ARGV[at + 1]) end
  end
end
return { 1, 0 }
