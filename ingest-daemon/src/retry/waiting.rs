//! How many of whose messages wait in delay queues, written down for people to see.
//!
//! The queues are shared, and the broker counts no tenants. So a daemon writes down what it has put there, once the
//! broker has it and before the delivery is acknowledged: whenever a daemon dies, what it wrote stays, and what it did not
//! is delivered again. What was due by a time is taken out together, once a look at the queue has shown that all of that
//! is back: nobody has to remember who waited, and whatever a crash left behind goes by itself when its time has come.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use common::id::TenantId;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use super::Store;

/// What is due within so many milliseconds is one row's: a tenant whose every message is refused has ten a second.
const STEP_MS: i64 = 100;
/// How long a letter waits for its count to be written. PostgreSQL takes a millisecond; where it takes longer the count
/// is written later, and is too low until then.
const WRITE_MAX: Duration = Duration::from_millis(500);
/// How many rows are kept while they cannot be written; the figure is too low for what is beyond that.
const UNWRITTEN_MAX: usize = 10_000;
/// How often a queue's rows are looked through without cause: for what a crash left behind.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// A row: the delay, when it is due, and whose it is.
pub(super) type Key = (i64, i64, TenantId);

/// Counts what waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    store: Store,
    unwritten: Mutex<BTreeMap<Key, i64>>,
    /// Whoever writes, writes everybody's.
    writing: tokio::sync::Mutex<()>,
}

impl Waiting {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            unwritten: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
        }
    }

    /// One more waits. Returns when that is written down, or is taking too long.
    pub(crate) async fn add(&self, tenant: TenantId, delay: Duration, due: SystemTime) {
        self.note((ms(delay), step(due), tenant), 1);
        self.write().await;
    }

    /// What was due before then is back in its tenants' queues.
    pub(crate) async fn back(&self, delay: Duration, before: SystemTime) {
        // What could not be written when it came.
        self.write().await;
        let swept = timeout(WRITE_MAX, self.store.sweep(ms(delay), since_epoch_ms(before)));
        if let Ok(Err(error)) = swept.await {
            debug!(%error, "what waits for a retry cannot be counted off yet");
        }
    }

    /// Writes what is unwritten: whatever comes while somebody writes is written together by the next.
    async fn write(&self) {
        let until = Instant::now() + WRITE_MAX;
        let Ok(_turn) = timeout_at(until, self.writing.lock()).await else {
            return;
        };
        let rows = std::mem::take(&mut *self.unwritten());
        if rows.is_empty() {
            return;
        }
        // If it is given up the rows may be written all the same, and are counted twice until they are due.
        match timeout_at(until, self.store.add_waiting(&rows)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                debug!(%error, "what waits for a retry cannot be counted yet");
                rows.into_iter().for_each(|(row, count)| self.note(row, count));
            }
            Err(_) => rows.into_iter().for_each(|(row, count)| self.note(row, count)),
        }
    }

    fn note(&self, row: Key, count: i64) {
        let mut unwritten = self.unwritten();
        if unwritten.len() < UNWRITTEN_MAX || unwritten.contains_key(&row) {
            *unwritten.entry(row).or_default() += count;
        }
    }

    fn unwritten(&self) -> MutexGuard<'_, BTreeMap<Key, i64>> {
        // Held for a moment; nothing can leave it half changed.
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When the rows of a delay are to be looked through: while what came back may still have one, and now and then.
#[derive(Debug)]
pub(crate) struct Sweeps {
    /// The last that came back has its row until then.
    owed: Option<SystemTime>,
    next: Instant,
}

impl Sweeps {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            owed: None,
            next: now,
        }
    }

    /// One that was due then has come back.
    pub(crate) fn came_back(&mut self, due: SystemTime) {
        let owed = due + Duration::from_millis(STEP_MS.unsigned_abs());
        self.owed = self.owed.max(Some(owed));
    }

    /// Whether to look now, where all is back that was due before `before`.
    pub(crate) fn is_due(&mut self, before: SystemTime, now: Instant) -> bool {
        let is_due = self.owed.is_some() || now >= self.next;
        if is_due {
            self.next = now + SWEEP_EVERY;
            self.owed = self.owed.filter(|owed| *owed >= before);
        }
        is_due
    }

    /// When to look again, at the latest.
    pub(crate) fn pause(&self) -> Duration {
        match self.owed {
            Some(_) => Duration::from_millis(2 * STEP_MS.unsigned_abs()),
            None => SWEEP_EVERY,
        }
    }
}

/// The end of the step that a time is in.
fn step(due: SystemTime) -> i64 {
    let ms = since_epoch_ms(due);
    ms - ms.rem_euclid(STEP_MS) + STEP_MS
}

fn since_epoch_ms(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, ms)
}

fn ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX - STEP_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(ms)
    }

    #[test]
    fn a_row_lasts_until_all_that_it_counts_is_due() {
        assert_eq!([at(1_000), at(1_001), at(1_099)].map(step), [1_100; 3]);
        assert_eq!(step(at(1_100)), 1_200);
    }

    #[test]
    fn rows_are_looked_through_until_the_last_that_came_back_has_none_and_now_and_then() {
        let start = Instant::now();
        let mut sweeps = Sweeps::new(start);
        assert!(sweeps.is_due(at(0), start), "what a crash left behind");
        assert!(!sweeps.is_due(at(0), start));
        sweeps.came_back(at(1_050));
        assert!(sweeps.is_due(at(1_060), start), "its row goes at 1,100");
        assert!(sweeps.pause() < SWEEP_EVERY);
        assert!(sweeps.is_due(at(1_200), start), "it is gone now");
        assert!(!sweeps.is_due(at(1_300), start));
        assert!(sweeps.is_due(at(9_000), start + SWEEP_EVERY));
    }
}
