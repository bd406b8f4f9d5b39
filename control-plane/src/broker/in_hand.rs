//! Dead letters that calls have in their hands: the broker counts them as nobody's, and they are there all the same.
//!
//! Known are this control plane's own calls, of which a tenant has one at a time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use common::id::TenantId;

/// What a call has of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Taken {
    /// How many have been read and are not given back.
    held: u32,
    /// How many the queue had, without those that are done with. Some of what is ready no more may be on its way here,
    /// or back.
    whole: u32,
}

/// Who has what; a handle.
#[derive(Clone, Debug, Default)]
pub(crate) struct InHand(Arc<Mutex<HashMap<TenantId, Taken>>>);

/// What was in hand before a queue was asked.
#[derive(Debug)]
pub(super) struct Before(Option<Taken>);

/// One call's. Dropped, it has nothing.
#[derive(Debug)]
pub(super) struct Hand {
    all: InHand,
    tenant: TenantId,
}

impl InHand {
    /// A call begins on a queue that has so many.
    pub(super) fn open(&self, tenant: TenantId, whole: u32) -> Hand {
        self.taken().insert(tenant, Taken { held: 0, whole });
        Hand {
            all: self.clone(),
            tenant,
        }
    }

    /// To be asked before the queue is.
    pub(super) fn before(&self, tenant: TenantId) -> Before {
        Before(self.taken().get(&tenant).copied())
    }

    /// How many letters there are, where the queue says that so many are ready.
    pub(super) fn count(&self, tenant: TenantId, Before(before): Before, ready: u32) -> u32 {
        let after = self.taken().get(&tenant).copied();
        // What was in hand all the time was not ready; a call that has begun or ended meanwhile had as many.
        let held = before
            .zip(after)
            .map_or(0, |(before, after)| before.held.min(after.held));
        let whole = after.or(before).map_or(0, |taken| taken.whole);
        ready.saturating_add(held).max(whole)
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<TenantId, Taken>> {
        // Held for a moment; nothing can leave it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hand {
    /// One more is read.
    pub(super) fn took(&self) {
        self.change(|taken| taken.held = taken.held.saturating_add(1));
    }

    /// So many have left the queue for good.
    pub(super) fn done(&self, count: u32) {
        self.change(|taken| {
            taken.held = taken.held.saturating_sub(count);
            taken.whole = taken.whole.saturating_sub(count);
        });
    }

    /// Everything goes back now, to a queue that has so many when it has arrived.
    pub(super) fn giving_back(&self, whole: u32) {
        self.change(|taken| *taken = Taken { held: 0, whole });
    }

    fn change(&self, change: impl FnOnce(&mut Taken)) {
        if let Some(taken) = self.all.taken().get_mut(&self.tenant) {
            change(taken);
        }
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.all.taken().remove(&self.tenant);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const TENANT: TenantId = TenantId(Uuid::from_u128(1));

    #[test]
    fn a_count_is_whole_whatever_is_in_hand_or_on_its_way() {
        let all = InHand::default();
        let count = |ready| all.count(TENANT, all.before(TENANT), ready);
        assert_eq!(count(7), 7);
        let hand = all.open(TENANT, 10);
        assert_eq!(count(6), 10, "four are on their way here");
        (0..4).for_each(|_| hand.took());
        assert_eq!(count(8), 12, "two have come to those that were there");
        hand.done(3);
        assert_eq!(count(8), 9);
        hand.giving_back(9);
        assert_eq!((count(8), count(9), count(10)), (9, 9, 10));
        drop(hand);
        assert_eq!(count(9), 9);
    }

    #[test]
    fn a_call_that_ends_while_the_queue_is_asked_is_not_missed() {
        let all = InHand::default();
        let hand = all.open(TENANT, 10);
        (0..4).for_each(|_| hand.took());
        let before = all.before(TENANT);
        drop(hand);
        assert_eq!(all.count(TENANT, before, 6), 10);
        let before = all.before(TENANT);
        let _begun = all.open(TENANT, 10);
        assert_eq!(all.count(TENANT, before, 9), 10);
    }
}
