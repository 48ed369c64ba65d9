-- Ends a family. One that is revoked stays revoked.
-- KEYS  1 the family
-- ARGV  1 version  2 how it ends
-- -1 where it is of another version.
local kept = redis.call('HMGET', KEYS[1], 'v', 'ended')
if kept[1] ~= ARGV[1] then
    return redis.call('EXISTS', KEYS[1]) == 1 and -1 or 0
end
if kept[2] ~= 'revoked' then
    redis.call('HSET', KEYS[1], 'ended', ARGV[2])
end
return 1
