-- Second factors: what was spent, and who is locked. The secrets are in keys/totp, never here.
create table second_factors (
    person text primary key,
    -- The step of the last code that was taken (RFC 6238); no code of it or before is taken again.
    last_step bigint not null,
    -- Wrong or used codes since the last good one or the last lock.
    wrong bigint not null,
    -- Locks since the last good code: each is twice as long as the one before.
    locks bigint not null,
    locked_until bigint not null
);
