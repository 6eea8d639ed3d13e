-- Certificates that `countersign ca check` asks for. The running node puts each into the log before it
-- may be signed.
create table probes (
    id text primary key,
    -- What it finds out: login, clock or plain.
    asks text not null,
    target text not null,
    login text not null,
    principal text not null,
    by text not null,
    at bigint not null,
    -- Set with its row in the log, or with why there is none.
    taken bigint,
    serial bigint unique check (serial > 0),
    refused text,
    -- It is signed for once.
    used bigint
);
create index probes_waiting on probes (at) where taken is null;
