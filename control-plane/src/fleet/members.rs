//! The daemons' rows: joining, staying, leaving. Leases are on the database's clock, so that no control plane's own
//! clock matters.

use common::id::TenantId;
use sqlx::{PgConnection, PgPool, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    GRACE, LEASE,
    changes::{Topic, notify},
};

/// Why a daemon is not, or no longer, a member.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// A living daemon has that id.
    #[error(
        "another daemon with id {0:?} is alive; give each daemon an id of its own, or wait until that one is declared out"
    )]
    IdInUse(String),
    /// It was declared out.
    #[error("daemon {0:?} was declared out, since it was not heard of in time; connect again")]
    Out(String),
    /// PostgreSQL failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// One process that is a member.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) incarnation: Uuid,
}

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
}

/// A lane as its daemon is to run it; no workers: not at all.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub(super) tenant: TenantId,
    pub(super) workers: u32,
    pub(super) revision: i64,
}

/// Lets a daemon in, or back in. The same process may come back at any time; another one under its id may when it is
/// gone or its lease is over.
pub(super) async fn join(pool: &PgPool, member: &Member, capacity: i32) -> Result<(), Error> {
    let mut transaction = pool.begin().await?;
    let joined: Option<bool> = sqlx::query_scalar(
        "insert into daemons as d (id, incarnation, state, capacity, lease_until)
         values ($1, $2, 'ready', $3, now() + make_interval(secs => $4))
         on conflict (id) do update
             set incarnation = excluded.incarnation, capacity = excluded.capacity, lease_until = excluded.lease_until,
                 state = case when d.state = 'draining' and d.incarnation = excluded.incarnation then d.state else 'ready' end,
                 joined_at = case when d.incarnation = excluded.incarnation then d.joined_at else now() end
             where d.incarnation = excluded.incarnation or d.state = 'gone' or d.lease_until < now()
         returning true",
    )
    .bind(&member.id)
    .bind(member.incarnation)
    .bind(capacity)
    .bind(LEASE.as_secs_f64())
    .fetch_optional(&mut *transaction)
    .await?;
    if joined.is_none() {
        return Err(Error::IdInUse(member.id.clone()));
    }
    notify(&mut *transaction, Topic::Demand).await?;
    transaction.commit().await?;
    Ok(())
}

/// Keeps a member in.
pub(super) async fn renew(pool: &PgPool, member: &Member) -> Result<(), Error> {
    let renewed = sqlx::query(
        "update daemons set lease_until = now() + make_interval(secs => $3)
         where id = $1 and incarnation = $2 and state <> 'gone'",
    )
    .bind(&member.id)
    .bind(member.incarnation)
    .bind(LEASE.as_secs_f64())
    .execute(pool)
    .await?;
    if renewed.rows_affected() == 0 {
        Err(Error::Out(member.id.clone()))
    } else {
        Ok(())
    }
}

/// A member's stream broke: it has a short time to come back.
pub(super) async fn lose(pool: &PgPool, member: &Member) -> Result<(), Error> {
    sqlx::query(
        "update daemons set lease_until = least(lease_until, now() + make_interval(secs => $3))
         where id = $1 and incarnation = $2",
    )
    .bind(&member.id)
    .bind(member.incarnation)
    .bind(GRACE.as_secs_f64())
    .execute(pool)
    .await?;
    Ok(())
}

/// A member leaves: its lanes move at once.
pub(super) async fn leave(pool: &PgPool, member: &Member) -> Result<(), Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query("update daemons set state = 'gone' where id = $1 and incarnation = $2")
        .bind(&member.id)
        .bind(member.incarnation)
        .execute(&mut *transaction)
        .await?;
    notify(&mut *transaction, Topic::Demand).await?;
    transaction.commit().await?;
    Ok(())
}

/// Declares those out whose lease is over, forgets those long gone, and answers who went out.
pub(super) async fn expire(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query("delete from daemons where state = 'gone' and lease_until < now() - interval '1 hour'")
        .execute(&mut *connection)
        .await?;
    sqlx::query_scalar(
        "update daemons set state = 'gone' where state <> 'gone' and lease_until < now() returning id",
    )
    .fetch_all(connection)
    .await
}

/// The fleet's epoch and revision.
pub(super) async fn fleet(pool: &PgPool) -> Result<(Uuid, i64), sqlx::Error> {
    let row = |row: PgRow| Ok((row.try_get("epoch")?, row.try_get("revision")?));
    sqlx::query("select epoch, revision from fleet")
        .try_map(row)
        .fetch_one(pool)
        .await
}

/// A daemon's lanes after a revision and tenant, in that order, `limit` at most. Rows of one revision become visible
/// together and revisions in their order, so nothing is passed over.
pub(super) async fn lanes_after(
    pool: &PgPool,
    daemon: &str,
    (revision, tenant): (i64, Uuid),
    limit: i64,
) -> Result<Vec<Lane>, sqlx::Error> {
    let row = |row: PgRow| {
        let workers: i32 = row.try_get("workers")?;
        Ok(Lane {
            tenant: TenantId(row.try_get("tenant_id")?),
            workers: workers.unsigned_abs(),
            revision: row.try_get("revision")?,
        })
    };
    sqlx::query(
        "select tenant_id, workers, revision from assignments
         where daemon_id = $1 and (revision, tenant_id) > ($2, $3)
         order by revision, tenant_id
         limit $4",
    )
    .bind(daemon)
    .bind(revision)
    .bind(tenant)
    .bind(limit)
    .try_map(row)
    .fetch_all(pool)
    .await
}

/// Writes down what a daemon reports, and removes withdrawn lanes that have stopped.
pub(super) async fn observe(pool: &PgPool, member: &Member, reports: &[Report]) -> Result<(), sqlx::Error> {
    let column = |get: fn(&Report) -> i32| reports.iter().map(get).collect::<Vec<_>>();
    let mut transaction = pool.begin().await?;
    sqlx::query(
        "update assignments a
         set observed_revision = o.revision, observed_state = o.state, observed_workers = o.workers,
             observed_busy = o.busy, observed_held = o.held
         from unnest($2::uuid[], $3::bigint[], $4::text[], $5::int[], $6::int[], $7::int[])
             as o (tenant_id, revision, state, workers, busy, held)
         where a.daemon_id = $1 and a.tenant_id = o.tenant_id",
    )
    .bind(&member.id)
    .bind(reports.iter().map(|report| report.tenant.0).collect::<Vec<_>>())
    .bind(reports.iter().map(|report| report.revision).collect::<Vec<_>>())
    .bind(reports.iter().map(|report| report.state).collect::<Vec<_>>())
    .bind(column(|report| report.workers))
    .bind(column(|report| report.busy))
    .bind(column(|report| report.held))
    .execute(&mut *transaction)
    .await?;
    sqlx::query(
        "delete from assignments
         where daemon_id = $1 and workers = 0 and observed_state = 'stopped' and observed_revision >= revision",
    )
    .bind(&member.id)
    .execute(&mut *transaction)
    .await?;
    notify(&mut *transaction, Topic::Observed).await?;
    transaction.commit().await
}
