-- Returns an entry, or false if there is none.
-- KEYS: the entry.
local current, problem = read(KEYS[1])
if problem then return problem end
return current and reply(KEYS[1], current)
