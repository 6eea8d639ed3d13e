-- Times are microseconds since 1970, lengths microseconds, digests 32 bytes, lists and terms canonical
-- JSON. Rows of requests are never deleted: an id is never used for a second thing.

create table requests (
    id text primary key,
    state text not null check (state in ('needs-reason', 'pending', 'approved', 'denied', 'withdrawn', 'expired', 'void')),
    -- The document that is signed over; what it says is read from here and from no other column.
    bytes blob not null,
    digest blob not null unique,
    -- Requests of equal scope: at most one is open at a time.
    joins blob not null,
    person text not null,
    waiter text not null check (waiter in ('shell', 'other', 'nobody')),
    waiters bigint not null check (waiters >= 0),
    left_at bigint,
    linger bigint not null,
    made bigint not null,
    not_after bigint not null,
    -- When it ends undecided: not_after, or sooner once the last waiter has left.
    due bigint not null,
    ended_at bigint,
    ended_by text,
    note text
);
create unique index requests_one_open on requests (joins) where state in ('needs-reason', 'pending');
create index requests_due on requests (due) where state in ('needs-reason', 'pending');
create index requests_of_person on requests (person, made);
create index requests_made on requests (made);

create table request_targets (
    request text not null references requests (id),
    target text not null,
    pin blob not null,
    primary key (request, target)
);
create index request_targets_target on request_targets (target, request);

create table decisions (
    request text not null references requests (id),
    ordinal bigint not null,
    person text not null,
    -- At the time; what counts is what the directory says when it is used.
    groups text not null,
    verdict text not null check (verdict in ('approve', 'deny')),
    terms text,
    note text not null,
    level text not null check (level in ('connection', 'key', 'touch')),
    -- The signed document and its SSHSIG; absent at level connection.
    bytes blob,
    signature text,
    key text,
    at bigint not null,
    primary key (request, ordinal),
    unique (request, person, verdict),
    check ((level = 'connection') = (bytes is null) and (bytes is null) = (signature is null) and (bytes is null) = (key is null))
);

create table grants (
    request text primary key references requests (id),
    state text not null check (state in ('open', 'revoked', 'void', 'lapsed', 'ended')),
    person text not null,
    key text not null,
    source text not null,
    login text not null,
    workflows text not null,
    terms text not null,
    approvers text not null,
    given_at bigint not null,
    starts_at bigint not null,
    -- Nobody may use it for the first time after this.
    use_by bigint not null,
    first_used bigint,
    ends_at bigint,
    uses_left bigint check (uses_left >= 0),
    ended_at bigint,
    ended_by text,
    why text,
    check ((first_used is null) = (ends_at is null))
);
create index grants_open on grants (person, login) where state = 'open';

create table sessions (
    id text primary key,
    request text references requests (id),
    person text not null,
    target text not null,
    login text not null,
    kind text not null check (kind in ('shell', 'exec', 'sftp')),
    source text not null,
    serial bigint not null unique check (serial > 0),
    record text not null,
    -- The terms of the schedules as they were at the opening.
    retention text not null,
    started bigint not null,
    ends_at bigint,
    ended bigint,
    outcome text,
    -- Once sealed: the body below the recordings' directory, its SHA-256 and size, the manifest's SHA-256.
    file text,
    sha256 blob,
    bytes bigint,
    manifest blob,
    -- Rows of the audit log that say so.
    sealed_seq bigint,
    disposed_seq bigint,
    schedule text,
    keep_until bigint,
    due bigint,
    -- Disposal: announced (wall time, and the bastion's uptime, from which the grace counts), begun, done.
    marked bigint,
    marked_uptime bigint,
    erasing bigint,
    disposed bigint,
    check ((ended is null) = (outcome is null)),
    check ((file is null) = (sha256 is null) and (file is null) = (bytes is null) and (file is null) = (manifest is null)),
    check ((file is null) = (keep_until is null) and (file is null) = (due is null) and (file is null) = (schedule is null)),
    check ((marked is null) = (marked_uptime is null)),
    check (marked is null or file is not null),
    check (erasing is null or marked is not null),
    check (disposed is null or erasing is not null)
);
create index sessions_due on sessions (due) where file is not null and marked is null;
create index sessions_marked on sessions (marked) where marked is not null and disposed is null;
create index sessions_of_person on sessions (person, target, started);
create index sessions_of_target on sessions (target, started);
create index sessions_of_request on sessions (request);
create index sessions_started on sessions (started);
create index sessions_live on sessions (started) where ended is null;

-- Legal holds: conditions as they were asked for; they reach what comes later too. Never deleted.
create table holds (
    id text primary key,
    document text not null,
    placed bigint not null,
    released bigint
);

-- Every policy set that was loaded, for as long as anything names it.
create table policies (
    digest blob primary key,
    loaded bigint not null,
    files text not null
);

-- The clock rule: when this bastion last looked, and how long it has been up in all.
create table clock (
    one bigint primary key check (one = 1),
    last text not null
);
create table clock_accepts (
    at bigint not null,
    by text not null,
    taken bigint
);

-- An auditor who has shown that they can decrypt.
create table proofs (
    auditor text primary key,
    key text not null,
    proven bigint not null
);

create table audit (
    seq bigint primary key,
    at bigint not null,
    name text not null,
    -- The row as it is hashed: canonical JSON.
    line text not null,
    -- SHA-256(0x00 || line), RFC 6962.
    leaf blob not null
);
create trigger audit_keeps before update on audit begin select raise(abort, 'the audit log is append-only'); end;
create trigger audit_forgets_nothing before delete on audit begin select raise(abort, 'the audit log is append-only'); end;

create table checkpoints (
    size bigint primary key,
    at bigint not null,
    root blob not null,
    -- A signed note (C2SP tlog-checkpoint).
    note text not null
);
create trigger checkpoints_keep before update on checkpoints begin select raise(abort, 'checkpoints are append-only'); end;
create trigger checkpoints_forget_nothing before delete on checkpoints begin select raise(abort, 'checkpoints are append-only'); end;
