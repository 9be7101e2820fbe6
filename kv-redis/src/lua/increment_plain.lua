-- Increments a plain value in place. Returns the sum.
-- KEYS: the entry, twice. ARGV: two arguments that only increment.lua uses, the deadline of a new counter, the amount.
local deadline, by = ARGV[3], ARGV[4]
local is_new = redis.call('EXISTS', KEYS[1]) == 0
local sum = redis.pcall('INCRBY', KEYS[1], by)
if type(sum) == 'table' then
  if string.sub(sum.err, 1, 3) == 'ERR' then return redis.error_reply('NOTCOUNTER not a counter, or too large') end
  return sum
end
local total = redis.call('GET', KEYS[1])
if is_new and deadline == 'expired' then
  redis.call('UNLINK', KEYS[1])
elseif is_new and deadline ~= 'never' then
  redis.call('PEXPIREAT', KEYS[1], deadline)
end
return total
