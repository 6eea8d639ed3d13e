-- What policy knew when the request was made, besides who, what and where: after a reload it is ruled
-- again with this. Canonical JSON; absent in requests of an earlier version.
alter table requests add column context text;
