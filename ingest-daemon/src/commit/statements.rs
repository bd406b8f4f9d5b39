//! The statements that store.

/// One statement, and so one transaction and one round trip.
///
/// - `locked`: whoever stores messages of a tenant holds its counter until commit, so positions become visible in
///   their order. A counter that another daemon holds is left out, not waited for. Locking a row answers its newest
///   version, so `last` is right although the statement's snapshot may be older; everything below takes it from here.
/// - `bases`: by a tenant's number, the last position given out, or null if it was left out.
/// - `moved`: past every position handed out, used or not, and on by what was stored.
macro_rules! statement {
    (stored: $on_conflict:literal, counted: $counted:literal, moved: $moved:literal, answer: $answer:literal) => {
        concat!(
            "with locked as materialized (
                 select asked.tenant, tenant_id, positions.last, ($2::bigint[])[asked.tenant] as rows
                 from unnest($1::uuid[]) with ordinality as asked (tenant_id, tenant) join positions using (tenant_id)
                 for update of positions skip locked
             ), bases as (
                 select array_agg(locked.last order by tenant) as last
                 from generate_series(1, cardinality($1::uuid[])::bigint) as tenant left join locked using (tenant)
             ), stored as (
                 insert into messages (id, tenant_id, payload, position)
                 select row.id, ($1::uuid[])[row.tenant], row.payload::jsonb, bases.last[row.tenant] + row.number
                 from bases,
                      unnest($3::integer[], $4::bigint[], $5::uuid[], $6::text[]) as row (tenant, number, id, payload)
                 where bases.last[row.tenant] is not null ",
            $on_conflict,
            ")",
            $counted,
            ", moved as (update positions set ",
            $moved,
            ") ",
            $answer
        )
    };
}

/// Stores what is all new; PostgreSQL refuses the whole of it otherwise. Looking first whether each id is there costs
/// a third more.
pub(super) const STORE_NEW: &str = statement!(
    stored: "",
    counted: "",
    moved: "last = locked.last + locked.rows, stored = positions.stored + locked.rows
            from locked where positions.tenant_id = locked.tenant_id",
    answer: "select tenant_id, rows from locked"
);

/// Stores what may be there already. Such an id is passed over, which leaves a gap in the positions and no harm.
/// Asking for it beforehand (`not exists`) would plan over every partition.
pub(super) const STORE_CAREFULLY: &str = statement!(
    stored: "on conflict (tenant_id, id) do nothing returning tenant_id",
    counted: ", counted as (
                 select locked.tenant_id, locked.last + locked.rows as last, count(stored.tenant_id) as new
                 from locked left join stored on stored.tenant_id = locked.tenant_id
                 group by locked.tenant_id, locked.last, locked.rows
             )",
    moved: "last = counted.last, stored = positions.stored + counted.new
            from counted where positions.tenant_id = counted.tenant_id",
    answer: "select tenant_id, new from counted"
);

/// Which of these tenants have no counter: one was lost, in a restore of some tables perhaps.
pub(super) const WITHOUT_COUNTER: &str = "select tenant_id from unnest($1::uuid[]) as asked (tenant_id)
     where not exists (select from positions where positions.tenant_id = asked.tenant_id)";

/// Moves a tenant's counter past everything in its table, and makes it where there is none. It waits for the counter's
/// lock, and looks at it again then: what another commit stored meanwhile is behind its counter already.
pub(super) fn mend(table: &str) -> String {
    format!(
        "insert into positions (tenant_id, last)
         select id, coalesce((select max(position) from {table} where tenant_id = $1), 0) from tenants where id = $1
         on conflict (tenant_id) do update set last = excluded.last where positions.last < excluded.last"
    )
}

/// Writes something to the log and waits for the disk, without a table.
pub(super) const TOUCH_DISK: &str =
    "select pg_logical_emit_message(true, 'jalur', 'is the disk well?')::text";

/// Which backend serves this session.
pub(super) const BACKEND: &str =
    "select pid, backend_start::text from pg_stat_activity where pid = pg_backend_pid()";

/// Whether positions go on from what this copy of the data says: not in one that was restored from a backup, until a
/// control plane has moved them beyond what readers may have seen.
pub(super) const HISTORY_IS_KNOWN: &str = "select history is null or history is not distinct from coalesce(jalur_history(tableoid), history) from fleet";

/// Ends a backend that nobody listens to any more, and waits for its end: it holds counters until then.
pub(super) const END_BACKEND: &str = "select pg_terminate_backend(pid, 100) from pg_stat_activity
     where pid = $1 and backend_start::text = $2";
