-- Sets an entry under a condition. Returns 1 (stored) and the previous entry if it was asked for, or 0 (refused) and
-- the current entry.
-- KEYS: the entry, and its index if there is one.
-- ARGV: the stored bytes, the deadline, the condition and its operand, the member of the index, and 1 to return the
-- previous entry.
local stored, deadline, when, operand, member, return_previous = unpack(ARGV)
local current, problem = false, false
if when ~= 'always' or deadline == 'keep' or return_previous == '1' then
  current, problem = read(KEYS[1])
  if problem then return problem end
end
-- A retry of a set that was already applied returns the same status.
if is_retry(current, stored) then return { 1, false } end
if not holds(current, when, operand) then return { 0, current and reply(KEYS[1], current) } end
local previous = return_previous == '1' and current and reply(KEYS[1], current)
if KEYS[2] then
  if deadline == 'expired' then redis.call('ZREM', KEYS[2], member)
  elseif not current then redis.call('ZADD', KEYS[2], 0, member) end
end
put(KEYS[1], stored, deadline, current)
return { 1, previous }
