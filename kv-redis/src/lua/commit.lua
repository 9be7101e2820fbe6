-- KEYS: the entries, and behind them the indexes of their buckets where there are any.
-- ARGV: the numbers of entries and of checks; for each check its key, condition and what it wants; for each mutation its
-- key, the number of its index (0 for none), its member there, what to store, deadline ('delete' for none).
local entries, checks = tonumber(ARGV[1]), tonumber(ARGV[2])
local first = 3
for number = 1, checks do
  local current, problem = read(KEYS[tonumber(ARGV[first])])
  if problem then return problem end
  if not holds(current, ARGV[first + 1], ARGV[first + 2]) then return { 0, number - 1 } end
  first = first + 3
end
local function index(at)
  local number = tonumber(ARGV[at + 1])
  return number > 0 and KEYS[entries + number]
end
-- Whatever can fail comes before the first write, since a script is not rolled back.
for at = first, #ARGV, 5 do
  if ARGV[at + 4] == 'keep' then
    local _, problem = read(KEYS[tonumber(ARGV[at])])
    if problem then return problem end
  end
end
for at = first, #ARGV, 5 do
  local deadline = ARGV[at + 4]
  if index(at) and deadline ~= 'delete' and deadline ~= 'gone' then
    redis.call('ZADD', index(at), 0, ARGV[at + 2])
  end
end
for at = first, #ARGV, 5 do
  local key, deadline = KEYS[tonumber(ARGV[at])], ARGV[at + 4]
  if deadline == 'delete' then
    redis.call('UNLINK', key)
  else
    put(key, ARGV[at + 3], deadline, deadline == 'keep' and read(key))
  end
end
for at = first, #ARGV, 5 do
  if index(at) and redis.call('EXISTS', KEYS[tonumber(ARGV[at])]) == 0 then
    redis.call('ZREM', index(at), ARGV[at + 2])
  end
end
return { 1, 0 }
