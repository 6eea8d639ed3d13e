-- Whether the key checked who touched it; only beside the level touch.
alter table decisions add column verified integer not null default 0 check (verified = 0 or level = 'touch');
