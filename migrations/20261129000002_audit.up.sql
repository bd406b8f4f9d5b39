-- Who did what to which tenant when, and how it ended: a row for every call that changes something.
create table audit_events (
    -- The order in which calls began, nearly.
    id               bigint generated always as identity primary key,
    at               timestamptz not null default clock_timestamp(),
    request_id       text not null,
    -- Who called, as far as it is known: nothing of somebody without a good token.
    sub              text,
    role             text,
    caller_tenant_id uuid,
    -- The credential that the token was bought with.
    credential       text,
    address          text,
    method           text not null,
    -- The tenant that it was done to. No reference: what happened to a tenant outlives it.
    tenant_id        uuid,
    summary          text not null,
    -- How it ended; null as long as it has not, and for ever where the program died before.
    code             text,
    message          text,
    ended_at         timestamptz,
    -- How many refused calls before this one are not in here: their rows are bounded.
    left_out         bigint not null default 0
);
create index audit_events_of_tenant on audit_events (tenant_id, id) where tenant_id is not null;
-- For what is too old.
create index audit_events_at on audit_events (at);
