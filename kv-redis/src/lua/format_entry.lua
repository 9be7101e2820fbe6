-- Functions for entries with a header. An entry consists of the format, the deadline with its checksum, the version,
-- the checksum of key, version and value, and the value. The offsets are those of kv_core::stored.
local FORMAT, HEADER = 161, 34

-- Reads the stored bytes of an entry; false if there is no entry. The second result is an error reply or false.
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

-- True if the current entry has the version of the new one, so this call is a retry of a write that was applied.
local function is_retry(current, stored) return current and version(current) == version(stored) end

-- True if the condition holds for the current entry.
local function holds(current, when, operand)
  if when == 'always' then return true end
  if when == 'absent' then return not current end
  if not current then return false end
  if when == 'version' then return version(current) == operand end
  if when == 'value' then return value(current) == operand end
  return true
end

-- The entry in the form that Format::decode expects.
local function reply(_, current) return current end

-- Writes an entry with its deadline. `current` is the current entry, whose deadline 'keep' copies.
local function put(key, stored, deadline, current)
  if deadline == 'expired' then
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

-- Changes the deadline of an entry, and its fields in the header. Returns 1, or 0 if there is no entry.
local function set_deadline(key, deadline, fields)
  local first = redis.pcall('GETRANGE', key, 0, 0)
  if type(first) == 'table' then return first end
  if first == '' then return 0 end
  if string.byte(first) ~= FORMAT then return redis.error_reply('FOREIGN the stored bytes are not an entry') end
  if deadline == 'expired' then return redis.call('UNLINK', key) end
  redis.call('SETRANGE', key, 1, fields)
  if deadline == 'never' then redis.call('PERSIST', key) else redis.call('PEXPIREAT', key, deadline) end
  return 1
end

-- Continues the CRC-32C `state` with a text.
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

-- The stored bytes of a value: the header with the checksum of the value, then the value.
local function with_value(header, state, text)
  local crc = checksum(tonumber(state), text)
  local bytes = string.char(
    bit.band(bit.rshift(crc, 24), 255), bit.band(bit.rshift(crc, 16), 255),
    bit.band(bit.rshift(crc, 8), 255), bit.band(crc, 255))
  return string.sub(header, 1, 30) .. bytes .. text
end
