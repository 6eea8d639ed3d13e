-- Sessions that somebody ended, before their time: the row is what a session's lease reads. Never deleted.
create table kills (
    session text primary key references sessions (id),
    person text not null,
    why text not null,
    at bigint not null
);

-- Denied stays denied for a while: looked for before a request of equal scope is made.
create index requests_denied on requests (joins, ended_at) where state = 'denied';
