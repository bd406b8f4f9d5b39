alter table tenants drop column name_sought;
drop table turns;
alter table positions drop column stored;
