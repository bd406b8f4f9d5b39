-- A second wall around what one tenant's request reads. A session that says whose request it serves, in
-- `jalur.tenant`, sees that tenant's messages and no others, whatever it asks for. One that says nothing is the
-- system's own. Forced, so that it stands before the table's owner too; superusers and roles with BYPASSRLS pass.
create policy anything on messages using (true) with check (true);
-- Each subquery is answered once for a statement, and not for each row.
create policy of_one_tenant on messages as restrictive for select using (
    (select coalesce(current_setting('jalur.tenant', true), '') = '')
    or tenant_id = (select nullif(current_setting('jalur.tenant', true), '')::uuid)
);
alter table messages enable row level security;
alter table messages force row level security;
