-- How many messages of a tenant were stored in all: moved with every commit, since its row is written then anyhow.
-- Counted from now on; what is told of it are differences.
alter table positions add column stored bigint not null default 0;

-- A tenant's name as it is looked for, whatever its case: PostgreSQL's own way depends on how the database was made.
-- Null in rows that an older control plane wrote.
alter table tenants add column name_sought text;
update tenants set name_sought = lower(name) where phase in ('creating', 'ready');
