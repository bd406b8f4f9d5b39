//! Who did what to which tenant when, and how it ended.
//!
//! The gateway has a [`Recording`] for every call, whichever face it came by. A call that changes something is written
//! down before its handler runs and once more at its end, so that nothing can have changed without a row, even if the
//! program dies in between; where it cannot be written down, the call is refused and changes nothing. One transaction
//! for the row and the change would be less: a change is several (rows, a partition, queues at the broker, waiting for
//! the fleet), and a row that is rolled back with a change that failed tells nobody of the try.
//!
//! [`rules`] says of each method whether it is recorded and with which fields.

mod budget;
mod event;
mod recording;
mod retention;
pub(crate) mod rules;
mod store;
mod target;

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use sqlx::PgPool;

use self::{budget::Budget, store::Rows};
pub(crate) use self::{
    event::{Call, Event, Outcome},
    recording::Recording,
    retention::remove_old,
    store::{Row, page},
    target::Target,
};
use crate::request_id::RequestId;

/// Where calls are written down.
#[tonic::async_trait]
pub(crate) trait Journal: fmt::Debug + Send + Sync {
    /// A call begins. Answers the row's id.
    async fn begin(&self, event: &Event<'_>) -> Result<i64, sqlx::Error>;

    /// The call of that row has ended.
    async fn end(&self, id: i64, target: &Target, outcome: &Outcome) -> Result<(), sqlx::Error>;

    /// A call was refused before it began. So many before it are not written down.
    async fn refused(&self, event: &Event<'_>, outcome: &Outcome, left_out: u64) -> Result<(), sqlx::Error>;
}

/// The audit trail; a handle.
#[derive(Clone, Debug)]
pub struct Audit {
    journal: Arc<dyn Journal>,
    refusals: Arc<Mutex<Refusals>>,
}

/// What may be written of refused calls: a flood of bad tokens fills no disk, and does not hide what known callers try.
#[derive(Debug, Default)]
struct Refusals {
    of_strangers: Budget,
    of_callers: Budget,
}

impl Audit {
    /// A trail in the database's table.
    pub(crate) fn new(pool: PgPool) -> Self {
        Self::in_journal(Arc::new(Rows { pool }))
    }

    pub(crate) fn in_journal(journal: Arc<dyn Journal>) -> Self {
        let refusals = Arc::default();
        Self { journal, refusals }
    }

    /// The recording of a call, from an address.
    pub(crate) fn record(
        &self,
        method: &'static str,
        request: RequestId,
        address: Option<IpAddr>,
    ) -> Recording {
        Recording::new(self.clone(), Call::new(method, request, address))
    }

    /// Whether a refused call may be written down: with how many before it that were not.
    fn spend(&self, is_known: bool, now: Instant) -> Option<u64> {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        match is_known {
            true => refusals.of_callers.spend(now),
            false => refusals.of_strangers.spend(now),
        }
    }
}
