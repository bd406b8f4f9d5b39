create index assignments_revision on assignments (revision);
create index assignments_daemon on assignments (daemon_id);
drop index assignments_told;
alter table fleet drop column sums, drop column summed_up, drop column solved_at;
drop index tenants_uncounted;
alter table tenants drop column uncounted, drop column counted;
