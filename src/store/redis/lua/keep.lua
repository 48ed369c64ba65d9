-- Keeps a value for a time.
-- KEYS  1 its key
-- ARGV  1 the value  2 until
redis.call('SET', KEYS[1], ARGV[1])
redis.call('EXPIREAT', KEYS[1], ARGV[2])
return 1
