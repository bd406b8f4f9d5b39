//! What the rest of the control plane asks of the fleet.

use std::time::Duration;

use common::id::TenantId;
use sqlx::{PgPool, Row as _, postgres::PgRow};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tracing::warn;

use super::{
    Changes,
    changes::{Topic, notify},
};
use crate::error::Error;

/// How often whoever waits looks without being told.
const LOOK: Duration = Duration::from_secs(1);

/// A daemon's consumer for a tenant.
#[derive(Clone, Debug)]
pub(crate) struct Consumer {
    pub(crate) daemon: String,
    pub(crate) workers: u32,
    pub(crate) busy: u32,
}

/// What runs for a tenant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lanes {
    pub(crate) consumers: Vec<Consumer>,
    /// Delivered and not yet settled.
    pub(crate) held: u32,
}

/// The fleet.
#[derive(Clone, Debug)]
pub(crate) struct Fleet {
    pub(super) pool: PgPool,
    pub(super) changes: Changes,
}

/// Where a tenant's lanes stand.
#[derive(Clone, Copy, Debug)]
struct Standing {
    /// Daemons that are alive.
    daemons: i64,
    /// Workers that are assigned to them for the tenant.
    assigned: i64,
    /// Assignments, withdrawals included, that their daemon does not run yet as assigned.
    outstanding: i64,
    /// Withdrawals among them.
    stopping: i64,
}

/// A wait for lanes to do something.
pub(super) struct Waiting {
    deadline: Instant,
    changes: watch::Receiver<u64>,
}

impl Waiting {
    /// Begins to wait. Then look, then wait.
    pub(super) fn new(changes: watch::Receiver<u64>, limit: Duration) -> Self {
        Self {
            deadline: Instant::now() + limit,
            changes,
        }
    }

    /// Whether something may have changed; not, once the time is over. Every second at least: a change may not be
    /// heard of.
    pub(super) async fn changed(&mut self) -> bool {
        let look = (Instant::now() + LOOK).min(self.deadline);
        let _ = timeout_at(look, self.changes.changed()).await;
        Instant::now() < self.deadline
    }
}

impl Fleet {
    pub(crate) fn new(pool: PgPool, changes: Changes) -> Self {
        Self { pool, changes }
    }

    /// Asks for a round: tenants have changed. The second's tick asks too, so a failure here costs that second.
    pub(crate) async fn reassign(&self) {
        if let Err(error) = notify(&self.pool, Topic::Demand).await {
            warn!(%error, "could not ask for a round of assignment");
        }
    }

    /// Waits until a tenant's lanes run, or there is no daemon to run them.
    pub(crate) async fn wait_running(&self, tenant: TenantId, limit: Duration) -> Result<bool, Error> {
        self.wait_standing(tenant, limit, |standing| {
            if standing.daemons == 0 {
                return Some(false);
            }
            (standing.assigned > 0 && standing.outstanding == 0).then_some(true)
        })
        .await
    }

    /// Waits until a tenant runs with `workers` workers, where it is to run at all. Without a daemon: not applied.
    pub(crate) async fn wait_applied(
        &self,
        tenant: TenantId,
        workers: i32,
        limit: Duration,
    ) -> Result<bool, Error> {
        let paused: bool = sqlx::query_scalar("select status = 'paused' from tenants where id = $1")
            .bind(tenant.0)
            .fetch_optional(&self.pool)
            .await?
            .unwrap_or_default();
        self.wait_standing(tenant, limit, |standing| {
            if standing.daemons == 0 {
                return Some(false);
            }
            let assigned = if paused { 0 } else { i64::from(workers) };
            (standing.assigned == assigned && standing.outstanding == 0).then_some(true)
        })
        .await
    }

    /// Waits until no daemon consumes a tenant's queue.
    pub(crate) async fn wait_stopped(&self, tenant: TenantId, limit: Duration) -> Result<bool, Error> {
        self.wait_standing(tenant, limit, |standing| {
            (standing.assigned == 0 && standing.stopping == 0).then_some(true)
        })
        .await
    }

    /// Waits until no daemon has a consumer of a tenant's queue, or `limit` is over.
    pub(crate) async fn wait_let_go(&self, tenant: TenantId, limit: Duration) -> Result<bool, Error> {
        let mut waiting = Waiting::new(self.changes.subscribe_lanes_of(tenant), limit);
        loop {
            if self.lanes(tenant).await?.consumers.is_empty() {
                return Ok(true);
            }
            if !waiting.changed().await {
                return Ok(false);
            }
        }
    }

    async fn wait_standing(
        &self,
        tenant: TenantId,
        limit: Duration,
        done: impl Fn(Standing) -> Option<bool>,
    ) -> Result<bool, Error> {
        let mut waiting = Waiting::new(self.changes.subscribe_lanes_of(tenant), limit);
        loop {
            if let Some(answer) = done(self.standing(tenant).await?) {
                return Ok(answer);
            }
            if !waiting.changed().await {
                return Ok(false);
            }
        }
    }

    async fn standing(&self, tenant: TenantId) -> Result<Standing, Error> {
        let row = |row: PgRow| {
            Ok(Standing {
                daemons: row.try_get("daemons")?,
                assigned: row.try_get("assigned")?,
                outstanding: row.try_get("outstanding")?,
                stopping: row.try_get("stopping")?,
            })
        };
        Ok(sqlx::query(
            "select (select count(*) from daemons where state <> 'gone') as daemons,
                    coalesce(sum(workers), 0)::bigint as assigned,
                    count(*) filter (where workers = 0 or observed_revision < revision or observed_state <> 'running')
                        as outstanding,
                    count(*) filter (where workers = 0) as stopping
             from assignments a join daemons d on d.id = a.daemon_id
             where tenant_id = $1 and d.state <> 'gone'",
        )
        .bind(tenant.0)
        .try_map(row)
        .fetch_one(&self.pool)
        .await?)
    }

    /// What runs for a tenant at the moment.
    pub(crate) async fn lanes(&self, tenant: TenantId) -> Result<Lanes, Error> {
        let rows = sqlx::query(
            "select a.daemon_id, a.observed_state = 'running' as running, a.observed_workers, a.observed_busy,
                    a.observed_held
             from assignments a join daemons d on d.id = a.daemon_id
             where a.tenant_id = $1 and d.state <> 'gone'
             order by a.daemon_id",
        )
        .bind(tenant.0)
        .fetch_all(&self.pool)
        .await?;
        let mut lanes = Lanes::default();
        for row in rows {
            let count = |column| row.try_get::<i32, _>(column).map(i32::unsigned_abs);
            lanes.held = lanes.held.saturating_add(count("observed_held")?);
            if row.try_get("running")? {
                let (workers, busy) = (count("observed_workers")?, count("observed_busy")?);
                lanes.consumers.push(Consumer {
                    daemon: row.try_get("daemon_id")?,
                    workers,
                    busy,
                });
            }
        }
        Ok(lanes)
    }
}
