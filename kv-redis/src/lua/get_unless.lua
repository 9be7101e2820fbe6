-- Returns an entry, or only its header if the entry has this version, or false if there is no entry.
-- KEYS: the entry. ARGV: the version field of the header.
local header = redis.call('GETRANGE', KEYS[1], 0, 33)
if string.sub(header, 14, 30) == ARGV[1] then return header end
return redis.call('GET', KEYS[1])
