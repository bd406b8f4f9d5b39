alter table messages no force row level security;
alter table messages disable row level security;
drop policy of_one_tenant on messages;
drop policy anything on messages;
