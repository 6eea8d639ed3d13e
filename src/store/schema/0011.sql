-- Sessions that were opened by break-glass, each until somebody else has looked at it and after.
create table reviews (
    session text primary key,
    opened integer not null,
    reviewed integer,
    by text,
    note text
) strict;
create index reviews_open on reviews (opened) where reviewed is null;
