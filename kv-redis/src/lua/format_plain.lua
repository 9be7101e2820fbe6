-- Functions for bare values, which other programs write, too. They correspond to the functions in format_entry.lua. The
-- deadline is only that of the Redis key.
local function read(key)
  local found = redis.pcall('GET', key)
  if type(found) == 'table' then return false, found end
  return found, false
end

local function value(stored) return stored end

local function size(stored) return #stored end

-- A bare value has no version, so a retry cannot be recognised.
local function is_retry() return false end

local function holds(current, when, operand)
  if when == 'always' then return true end
  if when == 'absent' then return not current end
  if not current then return false end
  if when == 'value' then return current == operand end
  return when == 'present'
end

local function reply(key, current) return { current, redis.call('PEXPIRETIME', key) } end

local function put(key, stored, deadline)
  if deadline == 'expired' then
    redis.call('UNLINK', key)
  elseif deadline == 'never' then
    redis.call('SET', key, stored)
  elseif deadline == 'keep' then
    redis.call('SET', key, stored, 'KEEPTTL')
  else
    redis.call('SET', key, stored, 'PXAT', deadline)
  end
end

local function set_deadline(key, deadline)
  if redis.call('EXISTS', key) == 0 then return 0 end
  if deadline == 'expired' then return redis.call('UNLINK', key) end
  if deadline == 'never' then redis.call('PERSIST', key) else redis.call('PEXPIREAT', key, deadline) end
  return 1
end

