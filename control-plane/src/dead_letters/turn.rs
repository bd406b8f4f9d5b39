//! Turns: one call at a time has a tenant's dead-letter queue, over all control planes.
//!
//! A turn is an advisory lock of PostgreSQL's. All that one control plane holds are on one connection that nobody else
//! uses: however many calls are at work, they keep none from the pool. The lock is there so that a call sees every dead
//! letter, not for safety: where a connection is lost with its locks, another call may miss what the first has in its
//! hands, and the broker still gives no letter to both.

use std::{sync::Arc, time::Duration};

use common::id::TenantId;
use sqlx::PgPool;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::place::{Place, Places};
use crate::error::Error;

/// When a call is answered at the latest: its wait for the turn, its work, and its giving back.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// How much of that is for giving back what a call has read. The broker takes milliseconds for it, or some hundred of
/// them for thousands; if it needs longer, the turn ends later than the call.
pub(super) const GIVE_BACK_MAX: Duration = Duration::from_secs(4);
/// How long a call may work once it has its turn, whatever it is at then included: the last pause of a pace, say.
pub(super) const WORK_MAX: Duration = ANSWER_MAX.saturating_sub(WAIT_MAX.saturating_add(GIVE_BACK_MAX));
/// What of that is kept for the last step: the longest pause of a pace.
const LAST_STEP: Duration = super::pace::PAUSE_MAX;
/// How long it may go on where somebody waits to read: less than those wait.
const WORK_WANTED: Duration = Duration::from_secs(3);

/// How long a call waits for its turn.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// How often it looks whether the turn is free.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How many calls of a kind one control plane works on at once: each holds some megabytes of bodies.
const AT_ONCE: usize = 8;
/// How long PostgreSQL may take to lock or unlock, which is no work.
const LOCK_MAX: Duration = Duration::from_secs(3);
/// What tells our locks from others: `jdlq`.
const CLASS: i32 = 0x6a64_6c71;
/// How much longer than a call takes it may keep its turn, until the broker has its letters again; and a frozen control
/// plane.
const MARGIN: Duration = Duration::from_secs(40);

/// What a call does with the queue. What may take long is counted apart: the replays of many tenants, each at work for as
/// long as a call may be, are not what everybody else's reading waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Brief,
    Long,
}

/// Hands out turns.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    /// Of one connection.
    locks: PgPool,
    /// Whose queues this control plane's calls have: a connection's locks do not keep it from itself.
    places: Places,
    brief: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

/// A call's turn; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    tenant: TenantId,
    /// Kept until the lock is gone: whoever gets it finds the turn free.
    place: Option<Place>,
    permit: Option<OwnedSemaphorePermit>,
    since: Instant,
}

impl Turns {
    /// `locks` is a pool of one connection.
    pub(super) fn new(locks: PgPool) -> Self {
        Self {
            locks,
            places: Places::default(),
            brief: Arc::new(Semaphore::new(AT_ONCE)),
            long: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Waits for the turn, [`WAIT_MAX`] at most. Not to be dropped half way: a lock might be left that nobody knows of.
    pub(super) async fn take(&self, tenant: TenantId, work: Work) -> Result<Turn, Error> {
        let until = Instant::now() + WAIT_MAX;
        let others = || {
            Error::Unavailable(format!(
                "other calls are at work on the dead letters of tenant {tenant}; try again"
            ))
        };
        let place = self.places.take(tenant, work == Work::Brief, until).await;
        let place = place.ok_or_else(others)?;
        // A frozen control plane's connection is silent, and ends with its locks.
        let idle_ms = (ANSWER_MAX + MARGIN).as_millis();
        let lock = format!(
            "select pg_try_advisory_lock($1, $2) from set_config('idle_session_timeout', '{idle_ms}', false)"
        );
        while !self.ask(lock.clone(), tenant).await? {
            if Instant::now() >= until {
                return Err(others());
            }
            sleep(LOOK_EVERY).await;
        }
        let mut turn = Turn {
            turns: self.clone(),
            tenant,
            place: Some(place),
            permit: None,
            since: until,
        };
        let permits = match work {
            Work::Brief => &self.brief,
            Work::Long => &self.long,
        };
        // Last: whoever waits for somebody's turn takes no room.
        match timeout_at(until, Arc::clone(permits).acquire_owned()).await {
            Ok(Ok(permit)) => (turn.permit, turn.since) = (Some(permit), Instant::now()),
            Ok(Err(_)) | Err(_) => {
                return Err(Error::Unavailable(format!(
                    "{AT_ONCE} calls like this one are at work on other tenants' dead letters; try again"
                )));
            }
        }
        Ok(turn)
    }

    async fn ask(&self, sql: String, tenant: TenantId) -> Result<bool, Error> {
        let mut connection = self.locks.acquire().await?;
        let answer = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .bind(CLASS)
            .bind(key(tenant))
            .fetch_one(&mut *connection);
        match timeout(LOCK_MAX, answer).await {
            Ok(answer) => Ok(answer?),
            // Whether it was done is not known, so its connection ends, and with it whatever was locked.
            Err(_) => {
                drop(connection.detach());
                Err(Error::Database(sqlx::Error::PoolTimedOut))
            }
        }
    }
}

impl Turn {
    /// Whether the work is to end: its time is over, or somebody waits to read and it has gone on for long enough.
    pub(super) fn is_over(&self) -> bool {
        let now = Instant::now();
        let is_wanted = || self.place.as_ref().is_some_and(Place::is_wanted);
        now >= self.since + WORK_MAX - LAST_STEP || (now >= self.since + WORK_WANTED && is_wanted())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (turns, tenant, place) = (self.turns.clone(), self.tenant, self.place.take());
        tokio::spawn(async move {
            let unlock = "select pg_advisory_unlock($1, $2)".to_owned();
            if let Err(error) = turns.ask(unlock, tenant).await {
                tracing::debug!(%error, "a turn's lock could not be given back; it ends with its connection");
            }
            drop(place);
        });
    }
}

/// A tenant in 32 bits. Two tenants that share them merely wait for each other.
fn key(tenant: TenantId) -> i32 {
    let bytes = tenant.0.as_bytes();
    bytes.chunks(4).fold(0, |key, chunk| {
        let word = chunk.iter().fold(0, |word, byte| word << 8 | i32::from(*byte));
        key ^ word
    })
}
