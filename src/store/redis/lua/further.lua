-- Keeps a time, unless a later one is kept.
-- KEYS  1 its key
-- ARGV  1 the time  2 until
-- -1 where something else is kept.
local kept = redis.call('GET', KEYS[1])
if kept and not tonumber(kept) then
    return -1
end
if not kept or tonumber(kept) < tonumber(ARGV[1]) then
    redis.call('SET', KEYS[1], ARGV[1])
    redis.call('EXPIREAT', KEYS[1], ARGV[2])
end
return 1
