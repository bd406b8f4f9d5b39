//! The SQL: tenants' retention, and what is removed of their tables.
//!
//! A tenant's table is addressed by its own name: through `messages` a plan would lock that too, and a deletion of somebody
//! else's would wait for it.

use std::time::Duration;

use common::{config, database, database::Connect, id::TenantId};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Retention,
    plan::{Count, Remove, Removed},
};
use crate::{error::Error, turn::Turn};

/// How long others leave the turn to a control plane that is not heard of: longer than any step.
pub(super) const LEASE: Duration = Duration::from_secs(30);

/// What a session is set to. Who has locked a table is not waited for, and a trigger that sleeps holds up others' removal for
/// no longer than that; and a table is gone through by its index in the order
/// of positions, whatever its statistics say, which nobody may have made yet: a million rows were sorted for each step.
const SETTINGS: [(&str, &str); 4] = [
    ("lock_timeout", "100ms"),
    ("statement_timeout", "3s"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
];
/// How many tenants are read at a time.
const TENANTS_AT_ONCE: i64 = 1_000;

/// The one connection that a control plane removes on.
pub(crate) fn pool(config: &config::Database, name: &str) -> Result<PgPool, config::Error> {
    // What is slow or fails is said once, by the loop.
    let connect = Connect::new(config, name)?.quiet();
    let connect = SETTINGS
        .iter()
        .fold(connect, |connect, (name, value)| connect.set(name, value));
    Ok(connect.pool(database::connections(1)))
}

/// Sets a living tenant's retention.
pub(super) async fn set(pool: &PgPool, tenant: TenantId, retention: Retention) -> Result<(), Error> {
    let changed = sqlx::query(
        "update tenants
         set max_age_seconds = $2, max_messages = $3,
             updated_at = case when (max_age_seconds, max_messages) is not distinct from ($2, $3)
                               then updated_at else now() end
         where id = $1 and phase in ('creating', 'ready')",
    )
    .bind(tenant.0)
    .bind(retention.max_age_seconds)
    .bind(retention.max_messages)
    .execute(pool)
    .await?;
    match changed.rows_affected() {
        0 => Err(Error::NoTenant(tenant)),
        _ => Ok(()),
    }
}

/// A tenant that has a retention, and how far its positions have come.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub(super) struct Kept {
    #[sqlx(try_from = "Uuid")]
    pub(super) id: TenantId,
    #[sqlx(flatten)]
    pub(super) retention: Retention,
    pub(super) last: i64,
}

/// All of them, and the database's time before they were read.
pub(super) async fn kept(connection: &mut PgConnection) -> sqlx::Result<(OffsetDateTime, Vec<Kept>)> {
    let now = sqlx::query_scalar("select clock_timestamp()")
        .fetch_one(&mut *connection)
        .await?;
    let (mut all, mut after) = (Vec::new(), Uuid::nil());
    loop {
        let some: Vec<Kept> = sqlx::query_as(
            "select id, max_age_seconds, max_messages, last
             from tenants join positions on tenant_id = id
             where phase = 'ready' and (max_age_seconds is not null or max_messages is not null) and id > $1
             order by id
             limit $2",
        )
        .bind(after)
        .bind(TENANTS_AT_ONCE)
        .fetch_all(&mut *connection)
        .await?;
        let found = some.len() as i64;
        all.extend(some);
        match all.last() {
            Some(last) if found == TENANTS_AT_ONCE => after = last.id.0,
            _ => return Ok((now, all)),
        }
    }
}

/// How many of the rows there are that are asked for, and the last one's position.
pub(super) async fn count(
    connection: &mut PgConnection,
    tenant: TenantId,
    count: Count,
) -> sqlx::Result<(i64, Option<i64>)> {
    let sql = format!(
        "select count(*), max(position)
         from (select position from {} where tenant_id = $1 and position > $2 order by position limit $3) as found",
        tenant.partition()
    );
    sqlx::query_as(AssertSqlSafe(sql))
        // Of one table in thousands: not worth being remembered.
        .persistent(false)
        .bind(tenant.0)
        .bind(count.after)
        .bind(count.rows)
        .fetch_one(connection)
        .await
}

/// Removes what is to be removed, in one statement, and so in one transaction that holds no lock while it waits for this
/// program. `None` where nothing was touched, since the turn is somebody else's or the tenant's retention is another now.
///
/// - `turn`: who has it keeps it, and keeps others from it until the commit.
/// - `low`: the rows that are looked at.
/// - `cut`: the last position that goes. Both that may go for their number and those that may for their age come first.
pub(super) async fn remove(
    connection: &mut PgConnection,
    holder: Uuid,
    kept: &Kept,
    remove: Remove,
) -> sqlx::Result<Option<Removed>> {
    let table = kept.id.partition();
    let sql = format!(
        "with turn as (
             update turns set until = clock_timestamp() + make_interval(secs => $2)
             where what = $10 and holder = $1
                   and exists (select from tenants
                               where id = $3 and phase = 'ready' and max_age_seconds is not distinct from $4
                                     and max_messages is not distinct from $5)
             returning holder
         ), low as materialized (
             select position, created_at, row_number() over (order by position) as number
             from (select position, created_at from {table}
                   where tenant_id = $3 and position > $6
                   order by position
                   limit $7) as first
         ), young as materialized (
             select coalesce(min(position), 9223372036854775807) as first from low
             where $4 is null or created_at >= now() - make_interval(secs => $4)
         ), cut as materialized (
             select coalesce(max(position), $6) as position
             from low, young
             where number <= $8 and position <= $9 or position < young.first
         ), gone as (
             delete from {table}
             where tenant_id = $3 and position > $6 and position <= (select position from cut)
                   and exists (select from turn)
             returning position
         )
         select exists (select from turn), (select count(*) from gone), cut.position,
                (select count(*) from low), oldest.position, oldest.created_at
         from cut left join lateral (
             select low.position, low.created_at from low where low.position > cut.position
             order by low.position limit 1
         ) as oldest on true"
    );
    type Row = (bool, i64, i64, i64, Option<i64>, Option<OffsetDateTime>);
    let (is_ours, rows, to, seen, position, at): Row = sqlx::query_as(AssertSqlSafe(sql))
        .persistent(false)
        .bind(holder)
        .bind(LEASE.as_secs_f64())
        .bind(kept.id.0)
        .bind(kept.retention.max_age_seconds)
        .bind(kept.retention.max_messages)
        .bind(remove.after)
        .bind(remove.rows)
        .bind(remove.excess)
        .bind(remove.excess_to)
        .bind(Turn::Retention.what())
        .fetch_one(connection)
        .await?;
    Ok(is_ours.then_some(Removed {
        rows,
        to,
        seen,
        oldest: position.zip(at),
    }))
}
