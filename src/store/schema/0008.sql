-- A denial stands for a while for each target that was in it, whatever else is asked with it.
create index requests_denied_lately on requests (ended_at) where state = 'denied';
drop index requests_denied;
