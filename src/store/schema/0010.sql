-- Stages that have asked wider than those who did not answer: they go on asking them.
create table escalations (
    request text not null references requests (id),
    workflow text not null,
    stage bigint not null,
    why text not null check (why in ('unanswered', 'too-few')),
    at bigint not null,
    primary key (request, workflow, stage)
);

-- When whoever is asked may be somebody else; 0: as soon as possible.
alter table requests add column look_at bigint not null default 0;
create index requests_look on requests (look_at) where state = 'pending';

-- Who said that they are away; ended: back before that, or another word since.
create table absences (
    person text not null,
    since bigint not null,
    until bigint not null,
    instead text,
    ended bigint,
    primary key (person, since)
);
create index absences_now on absences (until) where ended is null;
-- Who is let in no more, until it is lifted. Never deleted.
create table suspensions (
    person text not null,
    by text not null,
    reason text not null,
    at bigint not null,
    lifted bigint,
    primary key (person, at)
);
create unique index suspensions_now on suspensions (person) where lifted is null;
