drop table turns;
drop index tenants_retention;
alter table tenants
    drop column max_age_seconds,
    drop column max_messages;
