//! What one destination may have of the channels: where its queue does not answer, the others' calls go on.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Destinations without a call are forgotten when there are more than this.
const REMEMBERED: usize = 256;

#[derive(Clone, Debug)]
pub(super) struct Shares {
    each: usize,
    taken: Arc<Mutex<HashMap<String, Weak<Semaphore>>>>,
}

impl Shares {
    /// `each` calls at once for a destination.
    pub(super) fn new(each: usize) -> Self {
        Self {
            each,
            taken: Arc::default(),
        }
    }

    /// Waits for the other calls to the same destination.
    pub(super) async fn take(&self, destination: &str) -> Option<OwnedSemaphorePermit> {
        // None of them is ever closed.
        self.of(destination).acquire_owned().await.ok()
    }

    fn of(&self, destination: &str) -> Arc<Semaphore> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.len() > REMEMBERED {
            taken.retain(|_, share| share.strong_count() > 0);
        }
        let share = taken.entry(destination.to_owned()).or_default();
        share.upgrade().unwrap_or_else(|| {
            let new = Arc::new(Semaphore::new(self.each));
            *share = Arc::downgrade(&new);
            new
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn one_destination_cannot_take_what_others_need() {
        let shares = Shares::new(2);
        let first = shares.take("a").await;
        let _second = shares.take("a").await;
        assert!(shares.take("a").now_or_never().is_none());
        assert!(shares.take("b").now_or_never().is_some());
        drop(first);
        assert!(shares.take("a").now_or_never().is_some());
    }

    #[tokio::test]
    async fn destinations_without_a_call_are_forgotten() {
        let shares = Shares::new(1);
        let _held = shares.take("held").await;
        for n in 0..10 * REMEMBERED {
            shares.take(&n.to_string()).await;
        }
        assert!(shares.taken.lock().unwrap().len() <= REMEMBERED + 1);
        assert!(shares.take("held").now_or_never().is_none());
    }
}
