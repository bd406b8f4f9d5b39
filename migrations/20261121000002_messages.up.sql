-- One partition per tenant, named messages_ and the id's 32 hex digits. There is no default partition: it would
-- have to be scanned, and locked, whenever one is attached.
create table messages (
    id         uuid not null,
    tenant_id  uuid not null,
    payload    jsonb not null,
    created_at timestamptz not null default now(),
    position   bigint not null,
    -- A key on a partitioned table must hold the partition key. It is what makes a redelivery harmless.
    primary key (tenant_id, id),
    -- What a page is read by; unique, since readers resume from it.
    constraint messages_position unique (tenant_id, position)
) partition by list (tenant_id);

-- The last position given out per tenant. Whoever stores messages of a tenant locks its row until commit, so
-- positions become visible in their order. One row, updated with every commit: room on the page keeps such
-- updates off the index.
create table positions (
    tenant_id uuid primary key references tenants (id),
    last      bigint not null default 0
) with (fillfactor = 20);
