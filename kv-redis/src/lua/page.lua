-- KEYS: the entries. ARGV: for how many bytes of values there is room, and whether the entry that fills it belongs to the page.
-- Gives an answer for each entry, up to the one that fills the room.
local page = {}
local room, takes = tonumber(ARGV[1]), ARGV[2] == '1'
for number = 1, #KEYS do
  if not takes then
    local length = redis.pcall('STRLEN', KEYS[number])
    if type(length) == 'number' and length > room then break end
  end
  -- What is no entry of ours is told from one by who reads the page.
  local found = redis.pcall('GET', KEYS[number])
  if type(found) == 'string' then
    page[number] = shown(KEYS[number], found)
    room = room - size(found)
    if room <= 0 then break end
  else
    page[number] = false
  end
end
return page
