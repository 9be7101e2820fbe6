-- Reads the entries of a page. Returns a reply for each key, up to the entry that fills the page.
-- KEYS: the entries. ARGV: the maximum number of bytes of values, and 1 if the entry that exceeds this number still
-- belongs to the page.
--
-- One MGET reads several entries, and more entries the shorter they are, because one command for each entry takes a
-- sixth more time.
local MAX_AT_ONCE = 16
local page = {}
local bytes_left, takes_last = tonumber(ARGV[1]), ARGV[2] == '1'
local number, at_once, used = 1, 1, 0

if not takes_last then
  local length = redis.pcall('STRLEN', KEYS[1])
  if type(length) == 'number' and length > bytes_left then return page end
end
while number <= #KEYS do
  local last = math.min(number + at_once - 1, #KEYS)
  -- Foreign values are returned, too. The caller recognises them when it decodes them.
  local found = redis.call('MGET', unpack(KEYS, number, last))
  for _, stored in ipairs(found) do
    if stored then
      local length = size(stored)
      if not takes_last and length > bytes_left then return page end
      page[number] = reply(KEYS[number], stored)
      used, bytes_left = used + length, bytes_left - length
      if bytes_left <= 0 then return page end
    else
      -- MGET also returns nil for a value of another type. The reply 1 reports such a value, and false a missing key.
      page[number] = redis.call('EXISTS', KEYS[number]) == 1 and 1
    end
    number = number + 1
  end
  -- If the next entries are as long on average as those before, the next MGET reads at most half of the entries that
  -- still fit, so that it reads few bytes that do not fit.
  local fitting = math.floor(bytes_left / (2 * math.max(used / (number - 1), 1)))
  at_once = math.max(math.min(2 * at_once, MAX_AT_ONCE, fitting), 1)
end
return page
