//! The daemons' rows, and what they report. What happens to a row is decided by [`Membership`].

use common::id::TenantId;
use sqlx::{PgConnection, PgPool, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    changes::{Topic, notify},
    membership::{Event, Membership, Refusal, State},
};
use crate::problems::{self, Problem};

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
    /// There is no such daemon.
    #[error("daemon {0:?} is not alive; GET /api/daemons lists those that are")]
    NotAlive(String),
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
    pub(super) problem: Option<Problem>,
}

/// A lane as its daemon is to run it; no workers: not at all.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub(super) tenant: TenantId,
    pub(super) workers: u32,
    pub(super) revision: i64,
}

/// Lets a daemon in, or back in.
pub(super) async fn join(pool: &PgPool, member: &Member, capacity: i32) -> Result<(), Error> {
    let mut transaction = pool.begin().await?;
    let (before, _) = happens(&mut transaction, &member.id, Event::Join(member.incarnation)).await?;
    if before.is_some_and(|before| before.incarnation != member.incarnation) {
        // What the process before it reported says nothing of this one.
        sqlx::query(
            "update assignments
             set observed_revision = 0, observed_state = 'stopped', observed_workers = 0, observed_busy = 0,
                 observed_held = 0
             where daemon_id = $1",
        )
        .bind(&member.id)
        .execute(&mut *transaction)
        .await?;
        problems::forget(&mut transaction, &member.id).await?;
    }
    sqlx::query("update daemons set capacity = $2 where id = $1")
        .bind(&member.id)
        .bind(capacity)
        .execute(&mut *transaction)
        .await?;
    notify(&mut *transaction, Topic::Demand).await?;
    transaction.commit().await?;
    Ok(())
}

/// Keeps a member in.
pub(super) async fn renew(pool: &PgPool, member: &Member) -> Result<(), Error> {
    let mut transaction = pool.begin().await?;
    happens(&mut transaction, &member.id, Event::Heard(member.incarnation)).await?;
    transaction.commit().await?;
    Ok(())
}

/// A member's stream broke: it has a short time to come back.
pub(super) async fn lose(pool: &PgPool, member: &Member) -> Result<(), Error> {
    let mut transaction = pool.begin().await?;
    match happens(&mut transaction, &member.id, Event::Broke(member.incarnation)).await {
        // Another stream, or nobody, is in its place already.
        Ok(_) | Err(Error::Out(_)) => {}
        Err(error) => return Err(error),
    }
    transaction.commit().await?;
    Ok(())
}

/// A member leaves: its lanes move at once.
pub(super) async fn leave(pool: &PgPool, member: &Member) -> Result<(), Error> {
    let mut transaction = pool.begin().await?;
    happens(&mut transaction, &member.id, Event::Left(member.incarnation)).await?;
    notify(&mut *transaction, Topic::Demand).await?;
    transaction.commit().await?;
    Ok(())
}

/// Takes a daemon's lanes off it.
pub(super) async fn drain(pool: &PgPool, id: &str) -> Result<(), Error> {
    let mut transaction = pool.begin().await?;
    happens(&mut transaction, id, Event::Drain).await?;
    notify(&mut *transaction, Topic::Demand).await?;
    transaction.commit().await?;
    Ok(())
}

/// Declares those out whose lease is over, forgets those long gone, and answers who went out.
pub(super) async fn expire(connection: &mut PgConnection) -> Result<Vec<String>, Error> {
    sqlx::query("delete from daemons where state = 'gone' and lease_until < now() - interval '1 hour'")
        .execute(&mut *connection)
        .await?;
    // Without their locks: most are heard of just now.
    let overdue: Vec<String> = sqlx::query_scalar(
        "select id from daemons where state <> 'gone' and lease_until < clock_timestamp() order by id",
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut out = Vec::new();
    for id in overdue {
        if happens(connection, &id, Event::Look).await?.1.state == State::Gone {
            out.push(id);
        }
    }
    Ok(out)
}

/// Something happens to a daemon: reads what is known of it, lets [`Membership`] decide, and writes that down. Answers
/// what was known before and what is now.
async fn happens(
    connection: &mut PgConnection,
    id: &str,
    event: Event,
) -> Result<(Option<Membership>, Membership), Error> {
    // Two processes that join under a new id have no row yet to wait for each other at.
    if let Event::Join(_) = event {
        sqlx::query("select pg_advisory_xact_lock(hashtextextended('daemon ' || $1, 0))")
            .bind(id)
            .execute(&mut *connection)
            .await?;
    }
    let known = |row: PgRow| {
        Ok(Membership {
            incarnation: row.try_get("incarnation")?,
            state: match row.try_get("state")? {
                "ready" => State::Ready,
                "draining" => State::Draining,
                _ => State::Gone,
            },
            lease_until: row.try_get("lease_until")?,
            joined_at: row.try_get("joined_at")?,
        })
    };
    let known = sqlx::query(
        "select incarnation, state, lease_until, joined_at from daemons where id = $1 for update",
    )
    .bind(id)
    .try_map(known)
    .fetch_optional(&mut *connection)
    .await?;
    // After the locks, which may have taken a while.
    let now = sqlx::query_scalar("select clock_timestamp()")
        .fetch_one(&mut *connection)
        .await?;
    let after = Membership::on(known, event, now).map_err(|refusal| match refusal {
        Refusal::IdInUse => Error::IdInUse(id.to_owned()),
        Refusal::Out => Error::Out(id.to_owned()),
        Refusal::NotAlive => Error::NotAlive(id.to_owned()),
    })?;
    let state = match after.state {
        State::Ready => "ready",
        State::Draining => "draining",
        State::Gone => "gone",
    };
    // The capacity of a new one is written by who lets it in.
    sqlx::query(
        "insert into daemons (id, incarnation, state, capacity, lease_until, joined_at) values ($1, $2, $3, 1, $4, $5)
         on conflict (id) do update
             set incarnation = excluded.incarnation, state = excluded.state, lease_until = excluded.lease_until,
                 joined_at = excluded.joined_at",
    )
    .bind(id)
    .bind(after.incarnation)
    .bind(state)
    .bind(after.lease_until)
    .bind(after.joined_at)
    .execute(connection)
    .await?;
    Ok((known, after))
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
    notify(&mut *transaction, Topic::Observed).await?;
    transaction.commit().await
}
