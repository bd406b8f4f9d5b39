-- How many of whose messages wait in which delay's queue, by when they are due, in milliseconds since 1970: the broker
-- knows no tenants there. Written by the daemon that put them there, and gone when what was due by then is back.
create table waiting_retries (
    delay_ms  bigint not null check (delay_ms > 0),
    due_ms    bigint not null,
    tenant_id uuid not null,
    messages  bigint not null check (messages > 0),
    primary key (delay_ms, due_ms, tenant_id)
);
create index waiting_retries_of_tenant on waiting_retries (tenant_id);
