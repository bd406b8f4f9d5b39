-- The fleet's change counter. A row and not a sequence: its lock hands revisions out in commit order.
-- The epoch tells revisions of this history from those of a database that was restored from a backup.
create table fleet (
    singleton boolean primary key default true check (singleton),
    epoch     uuid not null default gen_random_uuid(),
    revision  bigint not null default 0
);
insert into fleet default values;

create table daemons (
    id          text primary key check (id ~ '^[A-Za-z0-9._-]{1,100}$'),
    -- Tells two processes that claim one id apart.
    incarnation uuid not null,
    state       text not null check (state in ('ready', 'draining', 'gone')),
    capacity    integer not null check (capacity > 0),
    -- On the database's clock: when the daemon is out unless it is heard of again.
    lease_until timestamptz not null,
    joined_at   timestamptz not null default now()
);

-- Which daemon runs a tenant's lane, and with how many workers. Zero workers is a withdrawal: it stays until the
-- daemon has reported the lane stopped, or is gone.
create table assignments (
    tenant_id uuid not null references tenants (id),
    daemon_id text not null references daemons (id) on delete cascade,
    workers   integer not null check (workers between 0 and 256),
    revision  bigint not null,
    -- What the daemon last reported of the lane.
    observed_revision bigint not null default 0,
    observed_state    text not null default 'stopped' check (observed_state in ('starting', 'running', 'stopped')),
    observed_workers  integer not null default 0,
    observed_busy     integer not null default 0,
    observed_held     integer not null default 0,
    primary key (tenant_id, daemon_id)
);
create index assignments_revision on assignments (revision);
create index assignments_daemon on assignments (daemon_id);
