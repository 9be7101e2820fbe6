-- KEYS: the entries. ARGV: for how many bytes of values there is room, and whether the entry that fills it belongs to the page.
-- Gives an answer for each entry, up to the one that fills the room.
--
-- Entries are read some at a time, more as long as what was read was short: a call for each costs a sixth more.
local MOST_AT_ONCE = 16
local page = {}
local room, takes = tonumber(ARGV[1]), ARGV[2] == '1'
local number, at_once, used = 1, 1, 0

if not takes then
  local length = redis.pcall('STRLEN', KEYS[1])
  if type(length) == 'number' and length > room then return page end
end
while number <= #KEYS do
  local last = math.min(number + at_once - 1, #KEYS)
  -- What is no entry of ours is told from one by who reads the page.
  local found = redis.call('MGET', unpack(KEYS, number, last))
  for _, stored in ipairs(found) do
    if stored then
      local length = size(stored)
      if not takes and length > room then return page end
      page[number] = shown(KEYS[number], stored)
      used, room = used + length, room - length
      if room <= 0 then return page end
    else
      page[number] = false
    end
    number = number + 1
  end
  -- If what follows is as long on average, half of it fits.
  local fitting = math.floor(room / (2 * math.max(used / (number - 1), 1)))
  at_once = math.max(math.min(2 * at_once, MOST_AT_ONCE, fitting), 1)
end
return page
