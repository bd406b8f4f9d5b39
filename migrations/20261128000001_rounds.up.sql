-- A round looks at those tenants alone that want another number of workers than the last one counted on.
alter table tenants
    add column counted integer not null default 0,
    add column uncounted boolean not null generated always as (
        counted <> case when phase = 'ready' and status = 'active' then workers else 0 end
    ) stored;
create index tenants_uncounted on tenants (id) where uncounted;

-- What the assignments add up to, for the revision that was current then.
alter table fleet
    add column sums jsonb,
    add column summed_up bigint,
    -- When everybody was solved.
    add column solved_at timestamptz;

-- What a stream is sent next: of one daemon, after the last row that it was sent.
create index assignments_told on assignments (daemon_id, revision, tenant_id);
drop index assignments_daemon;
drop index assignments_revision;
