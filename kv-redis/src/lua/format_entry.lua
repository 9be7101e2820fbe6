-- Entries with a header: format, deadline with its checksum, version, checksum, value. The offsets are those of
-- kv_core::stored.
local FORMAT, HEADER = 161, 34

local function read(key)
  local found = redis.pcall('GET', key)
  if type(found) == 'table' then return false, found end
  if found and (#found < HEADER or string.byte(found) ~= FORMAT) then
    return false, redis.error_reply('FOREIGN the stored bytes are not an entry')
  end
  return found, false
end

local function version(stored) return string.sub(stored, 14, 30) end

local function value(stored) return string.sub(stored, HEADER + 1) end

-- The length of the value in bytes.
local function size(stored) return math.max(#stored - HEADER, 0) end

local function is_mine(current, stored) return current and version(current) == version(stored) end

local function holds(current, when, operand)
  if when == 'always' then return true end
  if when == 'absent' then return not current end
  if not current then return false end
  if when == 'version' then return version(current) == operand end
  if when == 'value' then return value(current) == operand end
  return true
end

-- The entry as the caller decodes it.
local function reply(_, current) return current end

local function put(key, stored, deadline, current)
  if deadline == 'gone' then
    redis.call('UNLINK', key)
  elseif deadline == 'never' or (deadline == 'keep' and not current) then
    redis.call('SET', key, stored)
  elseif deadline == 'keep' then
    local kept = string.sub(stored, 1, 1) .. string.sub(current, 2, 13) .. string.sub(stored, 14)
    redis.call('SET', key, kept, 'KEEPTTL')
  else
    redis.call('SET', key, stored, 'PXAT', deadline)
  end
end

-- Changes the deadline of an entry. Returns 1, or 0 if there is no entry.
local function move(key, deadline, fields)
  local first = redis.pcall('GETRANGE', key, 0, 0)
  if type(first) == 'table' then return first end
  if first == '' then return 0 end
  if string.byte(first) ~= FORMAT then return redis.error_reply('FOREIGN the stored bytes are not an entry') end
  if deadline == 'gone' then return redis.call('UNLINK', key) end
  redis.call('SETRANGE', key, 1, fields)
  if deadline == 'never' then redis.call('PERSIST', key) else redis.call('PEXPIREAT', key, deadline) end
  return 1
end

-- Continues a CRC-32C.
local function checksum(state, text)
  local crc = bit.bnot(state)
  for at = 1, #text do
    crc = bit.bxor(crc, string.byte(text, at))
    for _ = 1, 8 do
      local low = bit.band(crc, 1)
      crc = bit.rshift(crc, 1)
      if low == 1 then crc = bit.bxor(crc, 0x82F63B78) end
    end
  end
  return bit.bnot(crc)
end

-- The header with the checksum of this value, then the value.
local function with_value(header, state, text)
  local crc = checksum(tonumber(state), text)
  local bytes = string.char(
    bit.band(bit.rshift(crc, 24), 255), bit.band(bit.rshift(crc, 16), 255),
    bit.band(bit.rshift(crc, 8), 255), bit.band(crc, 255))
  return string.sub(header, 1, 30) .. bytes .. text
end
