-- Reads the entries of a page. Returns a reply for each entry, up to the one that fills the page.
-- KEYS: the entries. ARGV: the bytes of values that fit, and 1 if the entry that exceeds them still belongs to the
-- page.
--
-- Entries are read several at a time, and more at a time while they are short: one call for each entry costs a sixth
-- more.
local MAX_AT_ONCE = 16
local page = {}
local room, takes_last = tonumber(ARGV[1]), ARGV[2] == '1'
local number, at_once, used = 1, 1, 0

if not takes_last then
  local length = redis.pcall('STRLEN', KEYS[1])
  if type(length) == 'number' and length > room then return page end
end
while number <= #KEYS do
  local last = math.min(number + at_once - 1, #KEYS)
  -- Foreign values are returned too; the caller recognises them when it decodes them.
  local found = redis.call('MGET', unpack(KEYS, number, last))
  for _, stored in ipairs(found) do
    if stored then
      local length = size(stored)
      if not takes_last and length > room then return page end
      page[number] = reply(KEYS[number], stored)
      used, room = used + length, room - length
      if room <= 0 then return page end
    else
      -- MGET also returns nil for a value of another type, which 1 reports.
      page[number] = redis.call('EXISTS', KEYS[number]) == 1 and 1
    end
    number = number + 1
  end
  -- Read at most half of the entries that fit if the next ones are as long on average.
  local fitting = math.floor(room / (2 * math.max(used / (number - 1), 1)))
  at_once = math.max(math.min(2 * at_once, MAX_AT_ONCE, fitting), 1)
end
return page
