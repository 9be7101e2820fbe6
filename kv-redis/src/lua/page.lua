-- KEYS: the entries. ARGV: how many bytes of values end the page. Gives an answer for each entry up to that one.
local page = {}
local room = tonumber(ARGV[1])
for number = 1, #KEYS do
  local found = read(KEYS[number])
  page[number] = found and shown(KEYS[number], found)
  if found then
    room = room - #value(found)
    if room <= 0 then break end
  end
end
return page
