//! The assignments' rows: what daemons are to run, and what they report. Whoever changes several locks them first, by
//! tenant and daemon.

use common::id::TenantId;
use sqlx::{Connection as _, PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    changes::{Topic, notify, notify_lanes},
    members::Member,
};
use crate::problems::{self, Problem};

/// A lane as its daemon reports it.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) tenant: TenantId,
    pub(super) revision: i64,
    /// As in the table's check: `starting`, `running`, `stopped`.
    pub(super) state: &'static str,
    pub(super) workers: i32,
    pub(super) busy: i32,
    pub(super) held: i32,
    pub(super) problem: Option<Problem>,
    /// How many bytes one of its messages takes, if that is known.
    pub(super) message_bytes: Option<i32>,
}

/// A lane before a report: its tenant, revision and state, and how large that tenant's messages were.
type Before = (Uuid, i64, String, Option<i32>);

/// A lane as its daemon is to run it; no workers: not at all.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub(super) tenant: TenantId,
    pub(super) workers: u32,
    pub(super) revision: i64,
    /// How many messages a second it may store, if its tenant is limited.
    pub(super) store_per_second: Option<f64>,
    /// How many bytes one of its messages takes, if that is known.
    pub(super) message_bytes: Option<u32>,
}

/// The fleet's epoch, and a daemon's lanes after a revision and tenant, in that order, `limit` at most. Rows of one
/// revision become visible together and revisions in their order, so nothing is passed over.
///
/// A tenant's lanes share its limit by their workers: where one of them changes all get another revision, and where the
/// limit does.
pub(super) async fn after(
    connection: &mut PgConnection,
    daemon: &str,
    (revision, tenant): (i64, Uuid),
    limit: i64,
) -> Result<(Uuid, Vec<Lane>), sqlx::Error> {
    let rows = sqlx::query(
        "select epoch, lanes.*,
                case when lanes.workers > 0 and t.store_per_second is not null
                     then t.store_per_second::float8 * lanes.workers
                          / (select sum(workers) from assignments where tenant_id = t.id)::float8
                     end as store_per_second,
                sizes.bytes as message_bytes
         from fleet left join lateral (
             select tenant_id, workers, revision from assignments
             where daemon_id = $1 and (revision, tenant_id) > ($2, $3)
             order by revision, tenant_id
             limit $4
         ) as lanes (tenant_id, workers, lane_revision) on true
         left join tenants t on t.id = lanes.tenant_id
         left join message_sizes sizes on sizes.tenant_id = lanes.tenant_id
         order by lane_revision, tenant_id",
    )
    .bind(daemon)
    .bind(revision)
    .bind(tenant)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    let lane = |row: &PgRow| {
        let Some(tenant) = row.try_get::<Option<Uuid>, _>("tenant_id")? else {
            return Ok(None);
        };
        Ok(Some(Lane {
            tenant: TenantId(tenant),
            workers: row.try_get::<i32, _>("workers")?.unsigned_abs(),
            revision: row.try_get("lane_revision")?,
            store_per_second: row.try_get("store_per_second")?,
            message_bytes: row
                .try_get::<Option<i32>, _>("message_bytes")?
                .map(i32::unsigned_abs),
        }))
    };
    let epoch = rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get("epoch")?;
    let lanes = rows.iter().filter_map(|row| lane(row).transpose());
    Ok((epoch, lanes.collect::<Result<_, sqlx::Error>>()?))
}

/// Writes down what a daemon reports, and removes withdrawn lanes that have stopped. Who waits for a lane is told when
/// it stands elsewhere or runs another revision, not how busy it is.
pub(super) async fn observe(
    connection: &mut PgConnection,
    member: &Member,
    reports: &[Report],
) -> Result<(), sqlx::Error> {
    let column = |get: fn(&Report) -> i32| reports.iter().map(get).collect::<Vec<_>>();
    let tenants: Vec<_> = reports.iter().map(|report| report.tenant.0).collect();
    let mut transaction = connection.begin().await?;
    let before: Vec<Before> = sqlx::query_as(
        "select tenant_id, observed_revision, observed_state, sizes.bytes
         from assignments left join message_sizes sizes using (tenant_id)
         where daemon_id = $1 and tenant_id = any($2)
               and exists (select from daemons where id = $1 and stream = $3)
         order by tenant_id
         for update of assignments",
    )
    .bind(&member.id)
    .bind(&tenants)
    .bind(member.speaker.stream)
    .fetch_all(&mut *transaction)
    .await?;
    if before.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "update assignments a
         set observed_revision = o.revision, observed_state = o.state, observed_workers = o.workers,
             observed_busy = o.busy, observed_held = o.held
         from unnest($2::uuid[], $3::bigint[], $4::text[], $5::int[], $6::int[], $7::int[])
             as o (tenant_id, revision, state, workers, busy, held)
         where a.daemon_id = $1 and a.tenant_id = o.tenant_id",
    )
    .bind(&member.id)
    .bind(&tenants)
    .bind(reports.iter().map(|report| report.revision).collect::<Vec<_>>())
    .bind(reports.iter().map(|report| report.state).collect::<Vec<_>>())
    .bind(column(|report| report.workers))
    .bind(column(|report| report.busy))
    .bind(column(|report| report.held))
    .execute(&mut *transaction)
    .await?;
    let lanes: Vec<_> = reports
        .iter()
        .map(|report| (report.tenant, report.problem.clone()))
        .collect();
    problems::report(&mut transaction, &member.id, &lanes).await?;
    let stopped: Vec<_> = reports
        .iter()
        .filter(|report| report.state == "stopped")
        .map(|report| report.tenant.0)
        .collect();
    if !stopped.is_empty() {
        sqlx::query(
            "delete from assignments
             where daemon_id = $1 and tenant_id = any($2)
                   and workers = 0 and observed_state = 'stopped' and observed_revision >= revision",
        )
        .bind(&member.id)
        .bind(stopped)
        .execute(&mut *transaction)
        .await?;
    }
    let before = |report: &Report| {
        let found = before.binary_search_by_key(&report.tenant.0, |(tenant, ..)| *tenant);
        found.ok().map(|index| &before[index])
    };
    let sizes = reports.iter().filter_map(|report| {
        let (_, _, _, known) = before(report)?;
        let bytes = report.message_bytes.filter(|bytes| *known != Some(*bytes))?;
        Some((report.tenant, bytes))
    });
    remember_sizes(&mut transaction, sizes.collect()).await?;
    let stood = |report: &Report| {
        before(report)
            .is_some_and(|(_, revision, state, _)| *revision == report.revision && state == report.state)
    };
    let moved = reports.iter().filter(|report| !stood(report));
    let moved: Vec<_> = moved.map(|report| report.tenant).collect();
    notify_lanes(&mut *transaction, &moved).await?;
    transaction.commit().await
}

/// Keeps how large tenants' messages are, for the next lane of each: of tenants whose lanes are locked, so that nothing is
/// kept of one that is gone.
async fn remember_sizes(
    connection: &mut PgConnection,
    mut sizes: Vec<(TenantId, i32)>,
) -> Result<(), sqlx::Error> {
    if sizes.is_empty() {
        return Ok(());
    }
    // A tenant may have lanes in two daemons, which report at the same time.
    sizes.sort_unstable();
    let (tenants, bytes): (Vec<_>, Vec<_>) =
        sizes.into_iter().map(|(tenant, bytes)| (tenant.0, bytes)).unzip();
    sqlx::query(
        "insert into message_sizes (tenant_id, bytes) select * from unnest($1::uuid[], $2::int[])
         on conflict (tenant_id) do update set bytes = excluded.bytes",
    )
    .bind(tenants)
    .bind(bytes)
    .execute(connection)
    .await
    .map(drop)
}

/// Has whoever runs a tenant's lanes told of them anew, once the transaction commits: something has changed that they
/// go by, and not who runs them, so that what they add up to still holds.
pub(crate) async fn tell_anew(connection: &mut PgConnection, tenant: TenantId) -> Result<(), sqlx::Error> {
    // Also where no lane is seen: a round that has not committed may have placed one, and waits for this lock or has it.
    let revision: i64 = sqlx::query_scalar(
        "update fleet
         set revision = revision + 1,
             summed_up = case when summed_up = revision then revision + 1 else summed_up end
         returning revision",
    )
    .fetch_one(&mut *connection)
    .await?;
    sqlx::query("select from assignments where tenant_id = $1 order by daemon_id for update")
        .bind(tenant.0)
        .execute(&mut *connection)
        .await?;
    sqlx::query("update assignments set revision = $2 where tenant_id = $1 and workers > 0")
        .bind(tenant.0)
        .bind(revision)
        .execute(&mut *connection)
        .await?;
    notify_lanes(&mut *connection, &[tenant]).await?;
    notify(connection, Topic::Assignments).await
}

/// Takes back what was reported of a daemon's lanes.
pub(super) async fn forget_reports(connection: &mut PgConnection, daemon: &str) -> Result<(), sqlx::Error> {
    sqlx::query("select from assignments where daemon_id = $1 order by tenant_id for update")
        .bind(daemon)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "update assignments
         set observed_revision = 0, observed_state = 'stopped', observed_workers = 0, observed_busy = 0,
             observed_held = 0
         where daemon_id = $1",
    )
    .bind(daemon)
    .execute(connection)
    .await
    .map(drop)
}
