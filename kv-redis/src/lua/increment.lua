-- Increments a counter. Returns the sum.
-- KEYS: the entry, a scratch key, and the index if there is one.
-- ARGV: a header without a value, the state of its checksum, the deadline of a new counter, the amount, and the member
-- of the index.
-- Lua numbers are exact only up to 2^53, so the script does not add in Lua but with INCRBY on the scratch key.
local header, state, deadline, by, member = unpack(ARGV)
local current, problem = read(KEYS[1])
if problem then return problem end
if is_retry(current, header) then return value(current) end
local text = current and value(current) or '0'
if #text > 20 then return redis.error_reply('NOTCOUNTER the value is not a counter') end
redis.call('SET', KEYS[2], text)
local sum = redis.pcall('INCRBY', KEYS[2], by)
local total = redis.call('GET', KEYS[2])
redis.call('UNLINK', KEYS[2])
if type(sum) == 'table' then return redis.error_reply('NOTCOUNTER not a counter, or too large') end
if KEYS[3] and not current and deadline ~= 'expired' then redis.call('ZADD', KEYS[3], 0, member) end
put(KEYS[1], with_value(header, state, total), current and 'keep' or deadline, current)
return total
