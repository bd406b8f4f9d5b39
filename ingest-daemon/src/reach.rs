//! Whether PostgreSQL can be reached, for the metrics: looked at every few seconds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::PgPool;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(5);
/// A database that takes longer to say anything does not count as reachable.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// What looks.
#[derive(Debug)]
pub(crate) struct Reach {
    database: PgPool,
    up: Arc<AtomicBool>,
}

impl Reach {
    pub(crate) fn new(database: PgPool) -> Self {
        Self {
            database,
            up: Arc::default(),
        }
    }

    /// Whether it was reached the last time.
    pub(crate) fn up(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let up = Arc::clone(&self.up);
        move || up.load(Ordering::Relaxed)
    }

    /// Looks until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let looking = async {
            loop {
                self.up.store(answers(&self.database).await, Ordering::Relaxed);
                sleep(EVERY).await;
            }
        };
        stop.run_until_cancelled(looking).await;
    }
}

/// Whether it answers now. The pool pings a connection before it hands it out.
pub(crate) async fn answers(database: &PgPool) -> bool {
    matches!(timeout(PING_TIMEOUT, database.acquire()).await, Ok(Ok(_)))
}
