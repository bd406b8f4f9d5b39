//! What was read last, for as long as it holds.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

/// What was read last; a handle.
#[derive(Debug)]
pub(crate) struct Latest<T>(watch::Receiver<Reading<T>>);

/// Where what is read is put.
#[derive(Debug)]
pub(super) struct Slot<T>(watch::Sender<Reading<T>>);

#[derive(Debug)]
struct Reading<T> {
    /// None where it could not be read.
    value: Option<Arc<T>>,
    /// From then on it says nothing any more.
    until: Instant,
}

impl<T> Latest<T> {
    /// Nothing was read yet.
    pub(super) fn new() -> (Slot<T>, Self) {
        let (slot, latest) = watch::channel(Reading {
            value: None,
            until: Instant::now(),
        });
        (Slot(slot), Self(latest))
    }

    /// What was read last, unless that is too old or failed.
    pub(crate) fn known(&self) -> Option<Arc<T>> {
        self.reading().flatten()
    }

    /// The same. Where the last reading is too old it waits for the next, so long at most.
    pub(super) async fn known_within(&self, limit: Duration) -> Option<Arc<T>> {
        let mut latest = self.0.clone();
        latest.mark_unchanged();
        if self.reading().is_none() {
            // Nothing is waited for where the reader is gone.
            let _ = timeout(limit, latest.changed()).await;
        }
        self.known()
    }

    /// Completes with the next reading; never, where nothing reads any more.
    pub(super) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// The last reading, if that is not too old.
    fn reading(&self) -> Option<Option<Arc<T>>> {
        let reading = self.0.borrow();
        (Instant::now() < reading.until).then(|| reading.value.clone())
    }
}

impl<T> Clone for Latest<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Slot<T> {
    /// This was read, or could not be, and holds until then.
    pub(super) fn put(&self, value: Option<T>, until: Instant) {
        self.0.send_replace(Reading {
            value: value.map(Arc::new),
            until,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_is_too_old_is_not_known_any_more_and_what_failed_is_not_known_at_once() {
        let (slot, latest) = Latest::new();
        assert_eq!(latest.known(), None);
        slot.put(Some(1), Instant::now() + 2 * SECOND);
        tokio::time::advance(SECOND).await;
        assert_eq!(latest.known().as_deref(), Some(&1));
        tokio::time::advance(SECOND).await;
        assert_eq!(latest.known(), None);
        slot.put(Some(2), Instant::now() + 2 * SECOND);
        slot.put(None, Instant::now() + 2 * SECOND);
        assert_eq!(latest.known(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_nobody_read_lately_is_waited_for() {
        let (slot, latest) = Latest::new();
        let reading = async {
            tokio::time::sleep(SECOND).await;
            slot.put(Some(1), Instant::now() + SECOND);
        };
        let (known, ()) = tokio::join!(latest.known_within(2 * SECOND), reading);
        assert_eq!(known.as_deref(), Some(&1));
        let start = Instant::now();
        // A broker that is away makes nobody wait.
        slot.put(None, Instant::now() + SECOND);
        assert_eq!(latest.known_within(2 * SECOND).await, None);
        assert_eq!(start.elapsed(), Duration::ZERO);
        tokio::time::advance(SECOND).await;
        assert_eq!(latest.known_within(2 * SECOND).await, None);
        assert_eq!(start.elapsed(), 3 * SECOND);
    }
}
