-- KEYS: the entry, and its index where there is one.
-- ARGV: what to store, deadline, condition, what it wants, member of the index, whether the previous entry is asked for.
local stored, deadline, when, wanted, member, asked = unpack(ARGV)
local current, problem = false, false
if when ~= 'always' or deadline == 'keep' or asked == '1' then
  current, problem = read(KEYS[1])
  if problem then return problem end
end
-- Sent again after it was done: the first answer once more.
if is_mine(current, stored) then return { 1, false } end
if not holds(current, when, wanted) then return { 0, current and shown(KEYS[1], current) } end
local before = asked == '1' and current and shown(KEYS[1], current)
if KEYS[2] then
  if deadline == 'gone' then redis.call('ZREM', KEYS[2], member)
  elseif not current then redis.call('ZADD', KEYS[2], 0, member) end
end
put(KEYS[1], stored, deadline, current)
return { 1, before }
