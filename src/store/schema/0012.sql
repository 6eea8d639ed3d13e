-- Forwards are sessions of their own, with the place that they lead to or listen on.
alter table sessions add column what text not null default 'shell'
    check (what in ('shell', 'exec', 'sftp', 'forward-local', 'forward-remote'));
update sessions set what = kind;
alter table sessions drop column kind;
alter table sessions rename column what to kind;
alter table sessions add column endpoint text;
