-- KEYS: the entries. ARGV: how many bytes of values end the page, or 'keys'. Gives an answer for each entry up to the end.
local page = {}
if ARGV[1] == 'keys' then
  for number = 1, #KEYS do page[number] = redis.call('EXISTS', KEYS[number]) end
  return page
end
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
