//! What one may have of something that all share: where one's work does not end, the others' goes on.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Those without a share are forgotten when there are more than this.
const REMEMBERED: usize = 256;

/// Shares of each `K`; a handle.
#[derive(Clone, Debug)]
pub struct Shares<K> {
    each: usize,
    taken: Arc<Mutex<HashMap<K, Weak<Semaphore>>>>,
}

impl<K: Clone + Eq + Hash> Shares<K> {
    /// `each` at once for everyone.
    pub fn new(each: usize) -> Self {
        Self {
            each,
            taken: Arc::default(),
        }
    }

    /// Waits for others that have this one's shares.
    pub async fn take(&self, of: &K) -> Option<OwnedSemaphorePermit> {
        // None of them is ever closed.
        self.of(of).acquire_owned().await.ok()
    }

    fn of(&self, of: &K) -> Arc<Semaphore> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.len() > REMEMBERED {
            taken.retain(|_, share| share.strong_count() > 0);
        }
        let share = taken.entry(of.clone()).or_default();
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
    async fn one_cannot_take_what_others_need() {
        let shares = Shares::new(2);
        let first = shares.take(&"a").await;
        let _second = shares.take(&"a").await;
        assert!(shares.take(&"a").now_or_never().is_none());
        assert!(shares.take(&"b").now_or_never().is_some());
        drop(first);
        assert!(shares.take(&"a").now_or_never().is_some());
    }

    #[tokio::test]
    async fn those_without_a_share_are_forgotten() {
        let shares = Shares::new(1);
        let _held = shares.take(&usize::MAX).await;
        for n in 0..10 * REMEMBERED {
            shares.take(&n).await;
        }
        assert!(shares.taken.lock().unwrap().len() <= REMEMBERED + 1);
        assert!(shares.take(&usize::MAX).now_or_never().is_none());
    }
}
