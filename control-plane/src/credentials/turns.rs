//! Who may do something costly: few at a time, few who wait, and of those few of one tenant.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use common::id::TenantId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Whom somebody stands for: a tenant, or nobody that is known, all of whom are one.
pub(super) type Holder = Option<TenantId>;

/// Turns at something; a handle.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    working: Arc<Semaphore>,
    places: Arc<Semaphore>,
    /// How many places each holder has; those that have none are not in it.
    holders: Arc<Mutex<HashMap<Holder, usize>>>,
    of_one_max: usize,
}

/// A place among those who work or wait.
#[derive(Debug)]
pub(super) struct Place {
    turns: Turns,
    holder: Holder,
    _place: OwnedSemaphorePermit,
}

/// A turn. It lasts until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _place: Place,
    _working: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// For `at_once` at a time, with `waiting` more who wait; `of_one` of them at most stand for the same holder.
    pub(super) fn new(at_once: usize, waiting: usize, of_one: usize) -> Self {
        Self {
            working: Arc::new(Semaphore::new(at_once)),
            places: Arc::new(Semaphore::new(at_once + waiting)),
            holders: Arc::default(),
            of_one_max: of_one,
        }
    }

    /// A place, if there is one.
    pub(super) fn place(&self, holder: Holder) -> Option<Place> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let mut holders = self.holders();
        let held = holders.entry(holder).or_default();
        if *held >= self.of_one_max {
            return None;
        }
        *held += 1;
        drop(holders);
        Some(Place {
            turns: self.clone(),
            holder,
            _place: place,
        })
    }

    fn holders(&self) -> MutexGuard<'_, HashMap<Holder, usize>> {
        // Counts, each of which is whole.
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Waits for the turn.
    pub(super) async fn turn(self) -> Turn {
        // It is never closed.
        let working = Arc::clone(&self.turns.working).acquire_owned().await.ok();
        Turn {
            _place: self,
            _working: working,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut holders = self.turns.holders();
        if let Some(held) = holders.get_mut(&self.holder) {
            *held -= 1;
            if *held == 0 {
                holders.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use uuid::Uuid;

    use super::*;

    fn tenant(number: u128) -> Holder {
        Some(TenantId(Uuid::from_u128(number)))
    }

    #[tokio::test]
    async fn so_many_work_so_many_wait_and_the_rest_is_told_at_once() {
        let turns = Turns::new(1, 2, 9);
        let first = turns.place(None).unwrap().turn().await;
        let second = turns.place(None).unwrap();
        let third = turns.place(tenant(1)).unwrap();
        assert!(turns.place(tenant(2)).is_none());
        let mut second = Box::pin(second.turn());
        assert!((&mut second).now_or_never().is_none());
        drop(first);
        assert!((&mut second).now_or_never().is_some());
        drop(third);
        assert!(turns.place(tenant(2)).is_some());
    }

    #[test]
    fn a_tenant_that_comes_often_leaves_places_to_others_and_so_does_nobody() {
        let turns = Turns::new(1, 9, 2);
        for holder in [tenant(1), None] {
            let held = [turns.place(holder).unwrap(), turns.place(holder).unwrap()];
            assert!(turns.place(holder).is_none());
            assert!(turns.place(tenant(2)).is_some());
            drop(held);
            assert!(turns.place(holder).is_some());
        }
        assert!(turns.holders().is_empty());
    }
}
