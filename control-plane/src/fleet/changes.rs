//! Wakes whoever waits for the fleet's rows to change, on every control plane.
//!
//! A notification only says "look again"; a slow tick says so too, so that a lost one costs a second and nothing
//! else. Counters, not messages: any number of changes before someone looks are one.

use std::time::Duration;

use sqlx::{PgExecutor, PgPool, postgres::PgListener};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// How often everyone looks without being told.
const TICK: Duration = Duration::from_secs(1);
/// How long a lost listener waits before it connects again.
const RETRY: Duration = Duration::from_millis(500);

/// What can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// Tenants or daemons: a round may be needed.
    Demand,
    /// Assignments: streams have something to send.
    Assignments,
    /// What daemons report.
    Observed,
}

const TOPICS: [Topic; 3] = [Topic::Demand, Topic::Assignments, Topic::Observed];

impl Topic {
    fn channel(self) -> &'static str {
        match self {
            Self::Demand => "jalur_demand",
            Self::Assignments => "jalur_assignments",
            Self::Observed => "jalur_observed",
        }
    }
}

/// A handle to wait with.
#[derive(Clone, Debug)]
pub(crate) struct Changes {
    counters: [watch::Sender<u64>; 3],
}

impl Changes {
    pub(crate) fn new() -> Self {
        Self {
            counters: [0; 3].map(|start| watch::channel(start).0),
        }
    }

    /// Changes of a topic from here on. Subscribe before you look, then wait.
    pub(crate) fn subscribe(&self, topic: Topic) -> watch::Receiver<u64> {
        self.counters[topic as usize].subscribe()
    }

    /// Wakes those in this process.
    fn wake(&self, topic: Topic) {
        self.counters[topic as usize].send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Listens until `stop`.
    pub(crate) async fn run(self, pool: PgPool, stop: CancellationToken) {
        let mut failing = false;
        while !stop.is_cancelled() {
            let Some(result) = stop.run_until_cancelled(self.listen(&pool, &mut failing)).await else {
                return;
            };
            if let Err(error) = result {
                // The first of an outage is said, the others only to those who look closely.
                if failing {
                    debug!(%error, "still cannot listen for changes");
                } else {
                    warn!(%error, "cannot listen for changes; looking every second instead");
                }
                failing = true;
            }
            self.wake_all();
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn listen(&self, pool: &PgPool, failing: &mut bool) -> Result<(), sqlx::Error> {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen_all(TOPICS.map(Topic::channel)).await?;
        *failing = false;
        self.wake_all();
        loop {
            match tokio::time::timeout(TICK, listener.try_recv()).await {
                Ok(Ok(Some(notification))) => {
                    if let Some(topic) = TOPICS
                        .into_iter()
                        .find(|topic| topic.channel() == notification.channel())
                    {
                        self.wake(topic);
                    }
                }
                // The connection was lost; what was sent meanwhile is not known.
                Ok(Ok(None)) => self.wake_all(),
                Ok(Err(error)) => return Err(error),
                Err(_) => self.wake_all(),
            }
        }
    }

    fn wake_all(&self) {
        TOPICS.into_iter().for_each(|topic| self.wake(topic));
    }
}

/// Tells every control plane, once the statement's transaction commits.
pub(crate) async fn notify(executor: impl PgExecutor<'_>, topic: Topic) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_notify($1, '')")
        .bind(topic.channel())
        .execute(executor)
        .await
        .map(drop)
}
