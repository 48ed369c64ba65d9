-- Whether this store may be used: whether what it holds is understood, and whether all that is
-- needed may be done to it. What is tried is harmless.
-- KEYS  1 where the version is kept  2 a key to try commands on
-- ARGV  1 the version  2 soon
-- What fails, and how: `version` and the one that is kept, a command and the error, or nothing and
-- nothing; 1 where the version was not kept before; the server's clock, where it may be read.
local function fault(answer)
    return type(answer) == 'table' and answer.err
end

local kept = redis.pcall('GET', KEYS[1])
if fault(kept) then
    return {'GET', kept.err, 0, ''}
end
if kept and kept ~= ARGV[1] then
    return {'version', kept, 0, ''}
end
local commands = {
    {'SET', KEYS[2], ''}, {'EXPIREAT', KEYS[2], ARGV[2]}, {'EXISTS', KEYS[2]}, {'MGET', KEYS[2]},
    {'HSET', KEYS[2], 'v', ''}, {'HMGET', KEYS[2], 'v'},
}
for _, command in ipairs(commands) do
    local failed = fault(redis.pcall(unpack(command)))
    -- Whether it may be done is told before whether the key is of the right kind.
    if failed and not string.find(failed, 'WRONGTYPE', 1, true) then
        return {command[1], failed, 0, ''}
    end
end
if not kept then
    redis.call('SET', KEYS[1], ARGV[1])
end
local time = redis.pcall('TIME')
return {'', '', kept and 0 or 1, fault(time) and '' or time[1]}
