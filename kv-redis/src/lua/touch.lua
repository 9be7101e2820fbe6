-- KEYS: the entry, and its index where there is one. ARGV: deadline, the header's fields for it, member of the index.
local moved = move(KEYS[1], ARGV[1], ARGV[2])
if KEYS[2] and ARGV[1] == 'gone' and moved == 1 then redis.call('ZREM', KEYS[2], ARGV[3]) end
return moved
