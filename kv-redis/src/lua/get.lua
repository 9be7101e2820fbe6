-- Returns an entry.
-- KEYS: the entry.
local current, problem = read(KEYS[1])
if problem then return problem end
return current and reply(KEYS[1], current)
