-- KEYS: the entry.
local current, problem = read(KEYS[1])
if problem then return problem end
return current and shown(KEYS[1], current)
