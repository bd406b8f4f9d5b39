//! Rounds of assignment. Any control plane may run one; the lock lets one at a time.

use std::{collections::BTreeSet, time::Duration};

use common::id::TenantId;
use sqlx::{Connection as _, PgConnection, PgPool, Row as _, postgres::PgRow};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::{
    Changes, Connections,
    changes::{Topic, notify, notify_lanes},
    connections::within,
    solver::{Daemon, Demand, Placement, solve},
};

/// Any constant of ours; it names the lock.
const LOCK: i64 = 0x6a61_6c75_7200_0001;
/// How soon to try again while another control plane's round runs: it may have read before our change.
const BUSY_RETRY: Duration = Duration::from_millis(20);
/// How long a round may take. One of ten thousand tenants takes half a second.
const ROUND_LIMIT: Duration = Duration::from_secs(20);

/// What a round came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// Everything is as it should be now.
    Done,
    /// Another control plane's round is running.
    Busy,
}

/// Runs rounds until `stop`: whenever demand changes, which it does every second at least.
pub(crate) async fn run(connections: Connections, changes: Changes, stop: CancellationToken) {
    let _ = stop
        .run_until_cancelled(run_on(&connections.rounds, &changes))
        .await;
}

async fn run_on(pool: &PgPool, changes: &Changes) {
    let mut demand = changes.subscribe(Topic::Demand);
    let mut failing = false;
    loop {
        demand.mark_unchanged();
        match within(pool, ROUND_LIMIT, round).await {
            Ok(Round::Busy) => {
                tokio::time::sleep(BUSY_RETRY).await;
                continue;
            }
            Ok(Round::Done) => failing = false,
            Err(error) => {
                if failing {
                    debug!(%error, "still cannot assign lanes");
                } else {
                    warn!(%error, "cannot assign lanes; trying on");
                }
                failing = true;
            }
        }
        // The sender lives as long as `changes`, which is here.
        let _ = demand.changed().await;
    }
}

async fn round(connection: &mut PgConnection) -> Result<Round, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let locked: bool = sqlx::query_scalar("select pg_try_advisory_xact_lock($1)")
        .bind(LOCK)
        .fetch_one(&mut *transaction)
        .await?;
    if !locked {
        return Ok(Round::Busy);
    }
    let (current, stale) = current(&mut transaction).await?;
    let daemons = daemons(&mut transaction).await?;
    let wanted = solve(&daemons, &demands(&mut transaction).await?, &current);
    let changes = Difference::between(&current, &wanted);
    if !changes.is_empty() || stale {
        changes.write(&mut transaction).await?;
        notify(&mut *transaction, Topic::Assignments).await?;
        info!(
            placed = changes.placed.len(),
            withdrawn = changes.withdrawn.len(),
            "assigned lanes"
        );
    }
    transaction.commit().await?;
    Ok(Round::Done)
}

async fn daemons(connection: &mut PgConnection) -> Result<Vec<Daemon>, sqlx::Error> {
    let row = |row: PgRow| {
        let capacity: i32 = row.try_get("capacity")?;
        Ok(Daemon {
            id: row.try_get("id")?,
            capacity: capacity.unsigned_abs(),
        })
    };
    sqlx::query("select id, capacity from daemons where state = 'ready' order by id")
        .try_map(row)
        .fetch_all(connection)
        .await
}

async fn demands(connection: &mut PgConnection) -> Result<Vec<Demand>, sqlx::Error> {
    let row = |row: PgRow| {
        let workers: i32 = row.try_get("workers")?;
        Ok(Demand {
            tenant: TenantId(row.try_get("id")?),
            workers: workers.unsigned_abs(),
        })
    };
    sqlx::query("select id, workers from tenants where phase = 'ready' and status = 'active' order by id")
        .try_map(row)
        .fetch_all(connection)
        .await
}

/// What is assigned now, and whether any row belongs to a daemon that is gone.
async fn current(connection: &mut PgConnection) -> Result<(Placement, bool), sqlx::Error> {
    let rows = sqlx::query(
        "select a.tenant_id, a.daemon_id, a.workers, d.state = 'gone' as gone
         from assignments a join daemons d on d.id = a.daemon_id",
    )
    .fetch_all(connection)
    .await?;
    let (mut placement, mut stale) = (Placement::new(), false);
    for row in rows {
        let workers: i32 = row.try_get("workers")?;
        if row.try_get("gone")? {
            stale = true;
        } else if workers > 0 {
            let lane = (TenantId(row.try_get("tenant_id")?), row.try_get("daemon_id")?);
            placement.insert(lane, workers.unsigned_abs());
        }
    }
    Ok((placement, stale))
}

/// What a round changes.
#[derive(Debug, Default)]
struct Difference {
    /// Lanes to run, or to run with other workers.
    placed: Vec<(TenantId, String, i32)>,
    /// Lanes to stop.
    withdrawn: Vec<(TenantId, String)>,
}

impl Difference {
    fn between(current: &Placement, wanted: &Placement) -> Self {
        let mut difference = Self::default();
        for (lane @ (tenant, daemon), &workers) in wanted {
            if current.get(lane) != Some(&workers) {
                difference.placed.push((*tenant, daemon.clone(), workers as i32));
            }
        }
        let wanted: BTreeSet<_> = wanted.keys().collect();
        let withdrawn = current.keys().filter(|lane| !wanted.contains(lane));
        difference.withdrawn = withdrawn.cloned().collect();
        difference
    }

    fn is_empty(&self) -> bool {
        self.placed.is_empty() && self.withdrawn.is_empty()
    }

    /// Writes it down under the next revision, together with the end of the lanes of daemons that are gone.
    async fn write(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        // A withdrawal is a lane of no workers: it stays until its daemon has reported it stopped.
        let placed = self
            .placed
            .iter()
            .map(|(tenant, daemon, workers)| (tenant.0, daemon.as_str(), *workers));
        let withdrawn = self
            .withdrawn
            .iter()
            .map(|(tenant, daemon)| (tenant.0, daemon.as_str(), 0));
        let mut lanes: Vec<_> = placed.chain(withdrawn).collect();
        lanes.sort_unstable();
        let tenants: Vec<Uuid> = lanes.iter().map(|(tenant, ..)| *tenant).collect();
        let daemons: Vec<&str> = lanes.iter().map(|(_, daemon, _)| *daemon).collect();
        let workers: Vec<i32> = lanes.iter().map(|(.., workers)| *workers).collect();

        // The row's lock lets revisions become visible in their order.
        let revision: i64 = sqlx::query_scalar("update fleet set revision = revision + 1 returning revision")
            .fetch_one(&mut *connection)
            .await?;
        // Reports lock several of these rows, too: everyone in the same order.
        sqlx::query(
            "select from assignments a join daemons d on d.id = a.daemon_id
             where d.state = 'gone' or (a.tenant_id, a.daemon_id) in (select * from unnest($1::uuid[], $2::text[]))
             order by a.tenant_id, a.daemon_id
             for update of a",
        )
        .bind(&tenants)
        .bind(&daemons)
        .execute(&mut *connection)
        .await?;
        let stopped: Vec<Uuid> = sqlx::query_scalar(
            "delete from assignments a using daemons d where d.id = a.daemon_id and d.state = 'gone'
             returning a.tenant_id",
        )
        .fetch_all(&mut *connection)
        .await?;
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
}
