-- Keeps a family that begins, and an opaque access token where there is one: both or none.
-- KEYS  1 the family  2 the opaque access token
-- ARGV  1 version  2 body  3 sequence  4 this attempt  5 until  7 claims  8 until
-- 1 where it is kept, 0 where there is a family of this name.
if redis.call('EXISTS', KEYS[1]) == 1 then
    -- The same attempt twice: its first answer was lost.
    return redis.call('HMGET', KEYS[1], 'attempt')[1] == ARGV[4] and 1 or 0
end
redis.call('HSET', KEYS[1], 'v', ARGV[1], 'body', ARGV[2], 'sequence', ARGV[3], 'attempt', ARGV[4])
redis.call('EXPIREAT', KEYS[1], ARGV[5])
if KEYS[2] then
    redis.call('SET', KEYS[2], ARGV[7])
    redis.call('EXPIREAT', KEYS[2], ARGV[8])
end
return 1
