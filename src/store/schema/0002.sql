-- Sessions that somebody ended, before their time: the row is what a session's lease reads. Never deleted.
create table kills (
    session text primary key references sessions (id),
    person text not null,
    why text not null,
    at bigint not null
);
