-- Commits a transaction. Returns { 1, 0 }, or { 0, N } if the check with number N, from 0, failed.
-- KEYS: the entries, then the indexes of their buckets if there are any.
-- ARGV: the number of entries and the number of checks. For each check: the number of its key, the condition and its
-- operand. For each mutation: the number of its key, the number of its index (0 for none), its member in the index, the
-- stored bytes, and the deadline ('delete' for a delete). Keys and indexes are numbered from 1.
local entries, checks = tonumber(ARGV[1]), tonumber(ARGV[2])
local first = 3
for number = 1, checks do
  local current, problem = read(KEYS[tonumber(ARGV[first])])
  if problem then return problem end
  if not holds(current, ARGV[first + 1], ARGV[first + 2]) then return { 0, number - 1 } end
  first = first + 3
end
-- The index of the mutation whose arguments begin at `at`.
local function index(at)
  local number = tonumber(ARGV[at + 1])
  return number > 0 and KEYS[entries + number]
end
-- The server does not roll back a script that fails. So the reads, which may fail, come before the first write, and the
-- additions to the indexes before the entries, so that no entry is ever missing in its index.
for at = first, #ARGV, 5 do
  if ARGV[at + 4] == 'keep' then
    local _, problem = read(KEYS[tonumber(ARGV[at])])
    if problem then return problem end
  end
end
for at = first, #ARGV, 5 do
  local deadline = ARGV[at + 4]
  if index(at) and deadline ~= 'delete' and deadline ~= 'expired' then
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
-- A set with an expired deadline has removed its entry, so the entries are checked, not the mutations.
for at = first, #ARGV, 5 do
  if index(at) and redis.call('EXISTS', KEYS[tonumber(ARGV[at])]) == 0 then
    redis.call('ZREM', index(at), ARGV[at + 2])
  end
end
return { 1, 0 }
