//! Sees which tenants' counters have moved: one look for all who follow, and none where nobody does.
//!
//! A notification with each commit would be heard sooner, but commits that notify wait for each other, and a tenant whom
//! nobody follows would pay for it. A look is one statement over an index.

use std::{collections::HashMap, io, time::Duration};

use common::id::TenantId;
use sqlx::PgPool;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::tails::Tails;

/// The time between two looks while something comes, and otherwise.
const BUSY: Duration = Duration::from_millis(1);
const IDLE: Duration = Duration::from_millis(10);
/// For how long something counts as coming after the last of it.
const BUSY_FOR: Duration = Duration::from_secs(1);
/// Of how many times as long as looking takes the pauses are at least: looking at many tenants is a third of a
/// connection's work at most.
const PAUSE_FACTOR: u32 = 2;
/// After a look that failed.
const RETRY: Duration = Duration::from_millis(500);
/// The longest that a look may take.
const LOOK: Duration = Duration::from_secs(5);

impl Tails {
    /// Looks until `stop`, on a connection of the pool's.
    pub(crate) async fn run(self, pool: PgPool, stop: CancellationToken) {
        stop.run_until_cancelled(self.look_on(&pool)).await;
    }

    async fn look_on(&self, pool: &PgPool) {
        let mut failing = false;
        let mut moved_at: Option<Instant> = None;
        loop {
            let tenants = self.0.tenants();
            if tenants.is_empty() {
                self.0.began.notified().await;
                continue;
            }
            let begun = Instant::now();
            match look(pool, &tenants).await {
                Ok(counters) => {
                    if std::mem::take(&mut failing) {
                        info!("what is stored is seen again by those who follow");
                    }
                    if self.0.counted(&tenants, &counters) {
                        moved_at = Some(Instant::now());
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        warn!(%error, "cannot see what is stored; those who follow wait");
                    }
                    sleep(RETRY).await;
                    continue;
                }
            }
            let pause = match moved_at.is_some_and(|at| at.elapsed() < BUSY_FOR) {
                true => BUSY,
                false => IDLE,
            };
            sleep(pause.max(begun.elapsed() * PAUSE_FACTOR)).await;
        }
    }
}

async fn look(pool: &PgPool, tenants: &[TenantId]) -> sqlx::Result<HashMap<TenantId, i64>> {
    let tenants: Vec<_> = tenants.iter().map(|tenant| tenant.0).collect();
    let look = sqlx::query_as("select tenant_id, last from positions where tenant_id = any($1)")
        .bind(tenants)
        .fetch_all(pool);
    let silent = |_| {
        let message = format!("PostgreSQL did not answer within {LOOK:?}");
        sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, message))
    };
    let counters: Vec<(Uuid, i64)> = timeout(LOOK, look).await.map_err(silent)??;
    Ok(counters
        .into_iter()
        .map(|(tenant, last)| (TenantId(tenant), last))
        .collect())
}
