-- What is kept of a tenant's messages; null: for ever.
alter table tenants
    add column max_age_seconds integer check (max_age_seconds > 0),
    add column max_messages    integer check (max_messages > 0);
-- Those of whom something may have to be removed now and then.
create index tenants_retention on tenants (id)
    where phase = 'ready' and (max_age_seconds is not null or max_messages is not null);

-- What one control plane at a time does for all of them, and until when others leave it to that one. A row and no advisory
-- lock: what is done can take the row in the same statement, so that who has lost the turn does nothing, whatever connection
-- it is on.
create table turns (
    what   text primary key,
    holder uuid,
    until  timestamptz not null default '-infinity'
);
insert into turns (what) values ('overview'), ('retention');

-- Of tenants that are gone only their ids are kept from now on.
update tenants set name = 'gone', description = '', created_with = '{}' where phase = 'gone';
