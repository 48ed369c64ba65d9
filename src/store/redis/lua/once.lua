-- Keeps an attempt, unless another one is kept.
-- KEYS  1 what is attempted
-- ARGV  1 this attempt  2 until
-- 1 where this attempt is the one that is kept.
local kept = redis.call('GET', KEYS[1])
if kept then
    -- The same attempt twice: its first answer was lost.
    return kept == ARGV[1] and 1 or 0
end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('EXPIREAT', KEYS[1], ARGV[2])
return 1
