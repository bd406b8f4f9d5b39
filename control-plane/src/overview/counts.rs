//! What PostgreSQL knows of all tenants, read every few seconds.

use std::{collections::HashMap, sync::Arc, time::Duration};

use common::id::TenantId;
use sqlx::PgPool;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;

use super::{LATE, latest::Slot, store};
use crate::{problems::Kind, tenants::retrying, turn::Turn};

/// How long one reading may take: some milliseconds for thousands of tenants.
const READING_MAX: Duration = Duration::from_secs(10);
/// How long giving the turn back may take; otherwise the next one waits for the lease.
const GOODBYE: Duration = Duration::from_secs(1);

/// One reading.
#[derive(Debug)]
pub(crate) struct Counts {
    stored: Stored,
    /// The reading before, unless that is too long ago.
    before: Option<Stored>,
    /// How many messages of each tenant that has any wait to be tried again.
    retrying: HashMap<TenantId, u32>,
    /// Known where the turn is.
    system: Option<System>,
}

/// How many messages of each tenant had been stored at a time.
#[derive(Clone, Debug)]
struct Stored {
    at: Instant,
    of: Arc<HashMap<TenantId, i64>>,
}

/// What is told of the whole system, by the one control plane that has the turn.
#[derive(Debug, Default)]
pub(super) struct System {
    pub(super) tenants: Vec<(String, i64)>,
    pub(super) daemons: Vec<(String, i64)>,
    pub(super) assignments: Vec<(String, i64)>,
    pub(super) problems: Vec<(Kind, i64)>,
}

impl Counts {
    /// How many messages of a tenant were stored in a second, to a tenth. None where it was read once only, or where the
    /// count went back, as it does in a database that was restored.
    pub(super) fn stored_per_second(&self, tenant: TenantId) -> Option<f64> {
        let before = self.before.as_ref()?;
        let now = self.stored.of.get(&tenant)?;
        // A new tenant had none.
        let then = before.of.get(&tenant).copied().unwrap_or_default();
        let stored = u64::try_from(now.checked_sub(then)?).ok()?;
        let seconds = self.stored.at.duration_since(before.at).as_secs_f64();
        (seconds > 0.0).then(|| (stored as f64 / seconds * 10.0).round() / 10.0)
    }

    /// How many messages of a tenant wait to be tried again.
    pub(super) fn retrying(&self, tenant: TenantId) -> u32 {
        self.retrying.get(&tenant).copied().unwrap_or_default()
    }

    /// What is told of the whole system: here, where this control plane has the turn.
    pub(super) fn system(&self) -> Option<&System> {
        self.system.as_ref()
    }

    /// How many messages of each tenant were stored in all.
    pub(super) fn stored(&self) -> &HashMap<TenantId, i64> {
        &self.stored.of
    }
}

/// Reads it.
#[derive(Debug)]
pub(super) struct Reader {
    pool: PgPool,
    interval: Duration,
    slot: Slot<Counts>,
    /// Who has the turn.
    holder: Uuid,
    before: Option<Stored>,
}

impl Reader {
    pub(super) fn new(pool: PgPool, interval: Duration, slot: Slot<Counts>) -> Self {
        Self {
            pool,
            interval,
            slot,
            holder: Uuid::new_v4(),
            before: None,
        }
    }

    /// Reads every `interval` until `stop`. What cannot be read keeps no old value.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut failing = false;
        loop {
            let start = Instant::now();
            // As long as the turn lasts, which nobody else has before this one shows nothing any more.
            let lease = 2 * self.interval + LATE;
            let reading = timeout(READING_MAX, self.read(lease));
            let Some(reading) = stop.run_until_cancelled(reading).await else {
                break;
            };
            let counts = match reading {
                Ok(counts) => counts.map_err(|error| error.to_string()),
                Err(_) => Err(format!("no answer within {READING_MAX:?}")),
            };
            match &counts {
                Ok(_) => failing = false,
                Err(cause) if failing => debug!(cause, "cannot count yet"),
                Err(cause) => {
                    warn!(cause, "cannot count what is stored and what there is; retrying");
                    failing = true;
                }
            }
            self.slot.put(counts.ok(), start + lease);
            let next = sleep_until(Instant::now() + self.interval);
            if stop.run_until_cancelled(next).await.is_none() {
                break;
            }
        }
        let given = timeout(GOODBYE, Turn::Overview.give_back(&self.pool, self.holder)).await;
        if !matches!(given, Ok(Ok(()))) {
            debug!("the turn could not be given back; it ends by itself");
        }
    }

    async fn read(&mut self, lease: Duration) -> Result<Counts, sqlx::Error> {
        let has_turn = Turn::Overview.take(&self.pool, self.holder, lease).await?;
        let stored = Stored {
            of: Arc::new(store::stored(&self.pool).await?),
            at: Instant::now(),
        };
        let before = self.before.replace(stored.clone());
        Ok(Counts {
            // A rate over an outage would be nobody's.
            before: before.filter(|before| stored.at.duration_since(before.at) <= lease),
            stored,
            retrying: retrying::all(&self.pool).await?,
            system: match has_turn {
                true => Some(store::system(&self.pool).await?),
                false => None,
            },
        })
    }
}

#[cfg(test)]
impl Counts {
    /// A reading of the turn's.
    pub(super) fn of_system(system: System, stored: &[(TenantId, i64)]) -> Self {
        Self {
            stored: Stored {
                at: Instant::now(),
                of: Arc::new(stored.iter().copied().collect()),
            },
            before: None,
            retrying: HashMap::new(),
            system: Some(system),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_what_was_stored_between_two_readings() {
        let [busy, idle, new, restored, unknown] = [1, 2, 3, 4, 5].map(|n| TenantId(Uuid::from_u128(n)));
        let at = Instant::now();
        let stored = |at, counts: &[(TenantId, i64)]| Stored {
            at,
            of: Arc::new(counts.iter().copied().collect()),
        };
        let mut counts = Counts {
            stored: stored(
                at + Duration::from_secs(4),
                &[(busy, 1_501), (idle, 9), (new, 8), (restored, 3)],
            ),
            before: Some(stored(at, &[(busy, 1_000), (idle, 9), (restored, 7)])),
            retrying: HashMap::new(),
            system: None,
        };
        let rates = [busy, idle, new, restored, unknown].map(|tenant| counts.stored_per_second(tenant));
        assert_eq!(rates, [Some(125.3), Some(0.0), Some(2.0), None, None]);
        counts.before = None;
        assert_eq!(counts.stored_per_second(busy), None, "one reading says nothing");
    }
}
