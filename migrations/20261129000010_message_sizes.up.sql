-- How large a tenant's messages have been, as its daemon last told: where its lane starts anew, it starts knowing that.
-- Nothing refers to it, so that a report waits for no change of a tenant.
create table message_sizes (
    tenant_id uuid primary key,
    bytes     integer not null check (bytes > 0)
);
