-- Whom key files are addressed to: a set of keys, JSON, by its SHA-256.
create table recipients (
    digest blob primary key,
    keys text not null
);

-- The key file of a sealed recording, as it was made last. No row: sealed before this was kept, or plain.
create table key_files (
    session text primary key references sessions (id),
    recipients blob not null references recipients (digest),
    -- By an auditor, since: who, when, and the SHA-256 of the file.
    rewrapped_by text,
    rewrapped bigint,
    sha256 blob,
    check ((rewrapped is null) = (rewrapped_by is null) and (rewrapped is null) = (sha256 is null))
);
