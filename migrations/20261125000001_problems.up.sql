-- What is wrong for a tenant, while it is. Almost always empty.
create table problems (
    tenant_id uuid not null references tenants (id),
    -- Which daemon reports it of its lane, one for a lane; null: what the control planes find themselves, one of a kind.
    daemon_id text,
    kind      text not null check (kind in ('queue', 'table', 'delivery', 'letters')),
    detail    text not null,
    since     timestamptz not null,
    -- What a daemon reports is of no more use than its lane.
    foreign key (tenant_id, daemon_id) references assignments on delete cascade
);
create unique index problems_reported on problems (tenant_id, daemon_id) where daemon_id is not null;
create unique index problems_found on problems (tenant_id, kind) where daemon_id is null;
