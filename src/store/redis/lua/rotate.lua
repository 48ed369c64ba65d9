-- Puts a family that has rotated in the place of what it was, and keeps an opaque access token where
-- there is one: both or none.
-- KEYS  1 the family  2 the opaque access token
-- ARGV  1 version  2 body  3 sequence  4 this attempt  5 until  6 the sequence number before
--       7 claims  8 until
-- 1 where it is kept; 0 where the family is unknown, has ended or has another sequence number; -1
-- where it is of another version.
local kept = redis.call('HMGET', KEYS[1], 'v', 'sequence', 'ended', 'attempt')
if kept[1] ~= ARGV[1] then
    return redis.call('EXISTS', KEYS[1]) == 1 and -1 or 0
end
-- The same attempt twice: its first answer was lost.
if kept[4] == ARGV[4] then
    return 1
end
if kept[3] or kept[2] ~= ARGV[6] then
    return 0
end
redis.call('HSET', KEYS[1], 'body', ARGV[2], 'sequence', ARGV[3], 'attempt', ARGV[4])
redis.call('EXPIREAT', KEYS[1], ARGV[5])
if KEYS[2] then
    redis.call('SET', KEYS[2], ARGV[7])
    redis.call('EXPIREAT', KEYS[2], ARGV[8])
end
return 1
