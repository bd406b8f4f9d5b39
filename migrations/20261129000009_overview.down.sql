alter table tenants drop column name_sought;
alter table positions drop column stored;
