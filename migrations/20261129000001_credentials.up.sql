-- What tenants' programs identify themselves with. A row goes with its tenant, and some time after it was revoked:
-- when none of the tokens that were bought with it can be good any more.
create table credentials (
    client_id    uuid primary key,
    tenant_id    uuid not null references tenants (id),
    role         text not null check (role in ('tenant', 'tenant_admin')),
    label        text not null check (char_length(label) <= 100),
    -- argon2id, in the PHC string format.
    secret_hash  text not null,
    amqp         boolean not null,
    created_at   timestamptz not null default now(),
    -- To a minute, and written before the first token: without it there is none.
    last_used_at timestamptz,
    revoked_at   timestamptz
);
create index credentials_tenant on credentials (tenant_id, created_at);
-- What every control plane reads every other second. Few rows.
create index credentials_revoked on credentials (revoked_at) where revoked_at is not null;
