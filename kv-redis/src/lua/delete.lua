-- KEYS: the entry, and its index where there is one.
-- ARGV: condition, what it wants, member of the index, whether the previous entry is asked for.
-- Gives 0 for refused, 1 for deleted, 2 for missing, and the entry.
local when, wanted, member, asked = unpack(ARGV)
local current, problem = read(KEYS[1])
if problem then return problem end
if not holds(current, when, wanted) then return { 0, current and shown(KEYS[1], current) } end
local before = asked == '1' and current and shown(KEYS[1], current)
if KEYS[2] then redis.call('ZREM', KEYS[2], member) end
return { 2 - redis.call('UNLINK', KEYS[1]), before }
