//! What a round reads and writes.

use std::{collections::BTreeSet, time::Duration};

use common::id::TenantId;
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    super::{
        changes::notify_lanes,
        solver::{Change, Daemon, Demand, Placement, Sums},
    },
    Difference,
};

/// Any constant of ours; it names the lock.
const LOCK: i64 = 0x6a61_6c75_7200_0001;

/// What a round sees first.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Those that can take lanes.
    pub(super) daemons: Vec<Daemon>,
    /// Whether a daemon that is gone has lanes.
    pub(super) stale: bool,
    /// What the lanes add up to, where that is known.
    pub(super) sums: Option<Sums>,
}

/// Takes the round's lock until the transaction ends, if nobody has it.
pub(super) async fn lock(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select pg_try_advisory_xact_lock($1)")
        .bind(LOCK)
        .fetch_one(connection)
        .await
}

/// What was summed up of everybody longer ago than `age_max` is not known any more.
pub(super) async fn look(connection: &mut PgConnection, age_max: Duration) -> Result<Seen, sqlx::Error> {
    let row = |row: PgRow| {
        Ok(Daemon {
            id: row.try_get("id")?,
            capacity: count(&row, "capacity")?,
        })
    };
    let daemons = sqlx::query("select id, capacity from daemons where state = 'ready' order by id")
        .try_map(row)
        .fetch_all(&mut *connection)
        .await?;
    // In an order, since an index has that: the planner would go through all lanes to find that somebody has none.
    let (sums, stale): (Option<String>, bool) = sqlx::query_as(
        "select case when summed_up = revision and solved_at > now() - make_interval(secs => $1)
                     then sums::text end,
                exists (select from daemons d where state = 'gone' and
                            (select true from assignments where daemon_id = d.id order by revision limit 1))
         from fleet",
    )
    .bind(age_max.as_secs_f64())
    .fetch_one(connection)
    .await?;
    // Those of another version are not understood: they are made anew.
    let sums: Option<Sums> = sums.and_then(|sums| serde_json::from_str(&sums).ok());
    Ok(Seen {
        sums: sums.filter(|sums| !stale && sums.are_of(&daemons)),
        daemons,
        stale,
    })
}

/// The tenants that want another number of workers than was counted on.
pub(super) async fn uncounted(connection: &mut PgConnection) -> Result<Vec<Change>, sqlx::Error> {
    sqlx::query(
        "select id, counted, case when phase = 'ready' and status = 'active' then workers else 0 end as wanted
         from tenants where uncounted order by id",
    )
    .try_map(|row| change(&row))
    .fetch_all(connection)
    .await
}

/// What everybody wants, and what of that was not counted on.
pub(super) async fn demands(
    connection: &mut PgConnection,
) -> Result<(Vec<Demand>, Vec<Change>), sqlx::Error> {
    let rows = sqlx::query(
        "select id, counted, uncounted,
                case when phase = 'ready' and status = 'active' then workers else 0 end as wanted
         from tenants where uncounted or phase = 'ready' and status = 'active' order by id",
    )
    .fetch_all(connection)
    .await?;
    let (mut demands, mut uncounted) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows {
        let change @ Change { tenant, workers, .. } = change(&row)?;
        if workers > 0 {
            demands.push(Demand { tenant, workers });
        }
        if row.try_get("uncounted")? {
            uncounted.push(change);
        }
    }
    Ok((demands, uncounted))
}

fn change(row: &PgRow) -> Result<Change, sqlx::Error> {
    Ok(Change {
        tenant: TenantId(row.try_get("id")?),
        before: count(row, "counted")?,
        workers: count(row, "wanted")?,
    })
}

fn count(row: &PgRow, column: &str) -> Result<u32, sqlx::Error> {
    row.try_get::<i32, _>(column).map(i32::unsigned_abs)
}

/// What is assigned now to daemons that are not gone.
pub(super) async fn lanes(connection: &mut PgConnection) -> Result<Placement, sqlx::Error> {
    sqlx::query(
        "select a.tenant_id, a.daemon_id, a.workers from assignments a join daemons d on d.id = a.daemon_id
         where a.workers > 0 and d.state <> 'gone'",
    )
    .try_map(|row| lane(&row))
    .fetch_all(connection)
    .await
    .map(Placement::from_iter)
}

/// What is assigned now of these tenants.
pub(super) async fn lanes_of(
    connection: &mut PgConnection,
    changes: &[Change],
) -> Result<Placement, sqlx::Error> {
    sqlx::query(
        "select tenant_id, daemon_id, workers from assignments where tenant_id = any($1) and workers > 0",
    )
    .bind(changes.iter().map(|change| change.tenant.0).collect::<Vec<_>>())
    .try_map(|row| lane(&row))
    .fetch_all(connection)
    .await
    .map(Placement::from_iter)
}

fn lane(row: &PgRow) -> Result<((TenantId, String), u32), sqlx::Error> {
    let lane = (TenantId(row.try_get("tenant_id")?), row.try_get("daemon_id")?);
    Ok((lane, count(row, "workers")?))
}

/// Writes down what the lanes add up to, where they are settled, and answers the revision, which is the next one if
/// something differs. The row's lock lets revisions become visible in their order.
pub(super) async fn sum_up(
    connection: &mut PgConnection,
    sums: Option<&Sums>,
    differs: bool,
    everybody: bool,
) -> Result<i64, sqlx::Error> {
    let sums = sums.and_then(|sums| serde_json::to_string(sums).ok());
    sqlx::query_scalar(
        "update fleet
         set revision = revision + $1, summed_up = revision + $1, sums = $2::jsonb,
             solved_at = case when $3 then now() else solved_at end
         returning revision",
    )
    .bind(i64::from(differs))
    .bind(sums)
    .bind(everybody)
    .fetch_one(connection)
    .await
}

/// Writes a difference down under a revision, together with the end of the lanes of daemons that are gone where there
/// are any.
pub(super) async fn write(
    connection: &mut PgConnection,
    revision: i64,
    difference: &Difference,
    stale: bool,
) -> Result<(), sqlx::Error> {
    // A withdrawal is a lane of no workers: it stays until its daemon has reported it stopped.
    let placed = difference
        .placed
        .iter()
        .map(|(tenant, daemon, workers)| (tenant.0, daemon.as_str(), *workers));
    let withdrawn = difference
        .withdrawn
        .iter()
        .map(|(tenant, daemon)| (tenant.0, daemon.as_str(), 0));
    let mut lanes: Vec<_> = placed.chain(withdrawn).collect();
    lanes.sort_unstable();
    let tenants: Vec<Uuid> = lanes.iter().map(|(tenant, ..)| *tenant).collect();
    let daemons: Vec<&str> = lanes.iter().map(|(_, daemon, _)| *daemon).collect();
    let workers: Vec<i32> = lanes.iter().map(|(.., workers)| *workers).collect();

    // Reports lock several of these rows, too: everyone in the same order.
    let lock = if stale {
        "select from assignments a join daemons d on d.id = a.daemon_id
         where d.state = 'gone' or (a.tenant_id, a.daemon_id) in (select * from unnest($1::uuid[], $2::text[]))
         order by a.tenant_id, a.daemon_id
         for update of a"
    } else {
        "select from unnest($1::uuid[], $2::text[]) as lanes (tenant_id, daemon_id)
                     join assignments a using (tenant_id, daemon_id)
         order by tenant_id, daemon_id
         for update of a"
    };
    sqlx::query(lock)
        .bind(&tenants)
        .bind(&daemons)
        .execute(&mut *connection)
        .await?;
    let stopped: Vec<Uuid> = if stale {
        sqlx::query_scalar(
            "delete from assignments a using daemons d where d.id = a.daemon_id and d.state = 'gone'
             returning a.tenant_id",
        )
        .fetch_all(&mut *connection)
        .await?
    } else {
        Vec::new()
    };
    sqlx::query(
        "insert into assignments (tenant_id, daemon_id, workers, revision)
         select tenant_id, daemon_id, workers, $4
         from unnest($1::uuid[], $2::text[], $3::int[]) as lanes (tenant_id, daemon_id, workers)
         order by tenant_id, daemon_id
         on conflict (tenant_id, daemon_id) do update set workers = excluded.workers, revision = excluded.revision",
    )
    .bind(&tenants)
    .bind(&daemons)
    .bind(&workers)
    .bind(revision)
    .execute(&mut *connection)
    .await?;
    let changed: BTreeSet<_> = tenants.into_iter().chain(stopped).map(TenantId).collect();
    notify_lanes(connection, &changed.into_iter().collect::<Vec<_>>()).await
}

/// Notes what was counted on. A tenant that somebody is changing now is counted by the next round: nobody is waited for.
pub(super) async fn count_on(connection: &mut PgConnection, changes: &[Change]) -> Result<(), sqlx::Error> {
    if changes.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "with free as (
             select t.id, c.workers from unnest($1::uuid[], $2::int[]) as c (id, workers) join tenants t using (id)
             for no key update of t skip locked
         )
         update tenants t set counted = free.workers from free where t.id = free.id",
    )
    .bind(changes.iter().map(|change| change.tenant.0).collect::<Vec<_>>())
    .bind(changes.iter().map(|change| change.workers as i32).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map(drop)
}
