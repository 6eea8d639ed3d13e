-- The running approval that a request would extend: while it waits, what runs on that one is not cut.
alter table requests add column extends text;
create index requests_extending on requests (extends) where state = 'pending' and extends is not null;
