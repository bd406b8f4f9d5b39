-- A tenant's life: creating -> ready -> deleting -> gone. `status` is what its owner wants of it while it lives.
-- A row stays when the tenant is gone: it keeps the id from being used again.
create table tenants (
    id          uuid primary key,
    name        text not null check (char_length(name) between 1 and 200),
    description text not null check (char_length(description) <= 2000),
    status      text not null check (status in ('active', 'paused')),
    phase       text not null check (phase in ('creating', 'ready', 'deleting', 'gone')),
    workers     integer not null check (workers between 1 and 256),
    -- What CreateTenant was called with: a retry with the same id must repeat it.
    created_with jsonb not null,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now()
);

-- A name is taken while its tenant lives.
create unique index tenants_name on tenants (name) where phase in ('creating', 'ready');
-- Lists are in order of creation, newest last.
create index tenants_created on tenants (created_at, id) where phase in ('creating', 'ready');
-- What the reconciler has to finish.
create index tenants_unfinished on tenants (phase) where phase in ('creating', 'deleting');
