-- Changes the deadline of an entry. Returns 1, or 0 if there is no entry.
-- KEYS: the entry, and its index if there is one.
-- ARGV: the deadline, the fields of the header for this deadline, and the member of the index.
local changed = set_deadline(KEYS[1], ARGV[1], ARGV[2])
if KEYS[2] and ARGV[1] == 'expired' and changed == 1 then redis.call('ZREM', KEYS[2], ARGV[3]) end
return changed
