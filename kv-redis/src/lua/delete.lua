-- Deletes an entry under a condition. Returns 0 (refused), 1 (deleted) or 2 (missing), and the current or previous
-- entry.
-- KEYS: the entry, and its index if there is one.
-- ARGV: the condition and its operand, the member of the index, and 1 to return the previous entry.
local when, operand, member, return_previous = unpack(ARGV)
local current, problem = read(KEYS[1])
if problem then return problem end
if not holds(current, when, operand) then return { 0, current and reply(KEYS[1], current) } end
local previous = return_previous == '1' and current and reply(KEYS[1], current)
if KEYS[2] then redis.call('ZREM', KEYS[2], member) end
return { 2 - redis.call('UNLINK', KEYS[1]), previous }
