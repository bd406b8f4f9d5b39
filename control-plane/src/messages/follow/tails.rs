//! What is new of each tenant that somebody follows, read once for all who do.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use common::id::TenantId;
use tokio::sync::{Notify, watch};

use super::super::read::{Message, Reading};

/// The most that is shown of a tenant at a time; who follows something faster, or larger, than that reads pages of its own. It
/// stays for as long as nothing newer is there, so it is small: there may be a thousand tenants.
const SHOWN_ROWS: i64 = 100;
const SHOWN_BYTES: usize = 128 << 10;

/// The tenants that are followed; a handle.
#[derive(Clone, Debug)]
pub(crate) struct Tails(pub(super) Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    reading: Reading,
    followed: Mutex<HashMap<TenantId, Tail>>,
    /// Somebody is followed for the first time.
    pub(super) began: Notify,
}

/// One tenant's.
#[derive(Debug)]
struct Tail {
    counter: watch::Sender<Counter>,
    shown: watch::Sender<Shown>,
}

/// Where a tenant's counter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counter {
    /// Nobody has looked yet.
    Unknown,
    /// The last position that was given out.
    At(i64),
    /// There is none: the tenant is gone.
    Gone,
}

/// What followers are shown.
#[derive(Clone, Debug)]
pub(super) enum Shown {
    /// Something may have come; each has to look.
    Something,
    /// This came.
    These(New),
}

/// Messages, and between which positions there are no others.
#[derive(Clone, Debug)]
pub(super) struct New {
    /// Behind this one.
    pub(super) behind: i64,
    /// Up to and with the last.
    pub(super) rows: Arc<[Message]>,
}

impl Tails {
    /// Reads by `reading`.
    pub(crate) fn new(reading: Reading) -> Self {
        Self(Arc::new(Shared {
            reading,
            followed: Mutex::default(),
            began: Notify::new(),
        }))
    }

    /// What is new of a tenant from here on. Subscribe before you look.
    pub(super) fn follow(&self, tenant: TenantId) -> watch::Receiver<Shown> {
        let mut followed = self.0.followed();
        if let Some(tail) = followed.get(&tenant) {
            return tail.shown.subscribe();
        }
        let tail = Tail {
            counter: watch::Sender::new(Counter::Unknown),
            shown: watch::Sender::new(Shown::Something),
        };
        let seen = tail.shown.subscribe();
        let shared = Arc::clone(&self.0);
        let (counter, shown) = (tail.counter.subscribe(), tail.shown.clone());
        // It ends with its last follower.
        tokio::spawn(async move { shared.show(tenant, counter, shown).await });
        followed.insert(tenant, tail);
        drop(followed);
        self.0.began.notify_one();
        seen
    }
}

impl Shared {
    /// The tenants that somebody follows.
    pub(super) fn tenants(&self) -> Vec<TenantId> {
        self.followed().keys().copied().collect()
    }

    /// Where the counters stand; answers whether one has moved. A tenant that is missing is gone.
    pub(super) fn counted(&self, asked: &[TenantId], counters: &HashMap<TenantId, i64>) -> bool {
        let followed = self.followed();
        let mut moved = false;
        for (tenant, tail) in asked
            .iter()
            .filter_map(|tenant| Some((tenant, followed.get(tenant)?)))
        {
            let now = counters.get(tenant).map_or(Counter::Gone, |&at| Counter::At(at));
            moved |= tail
                .counter
                .send_if_modified(|counter| std::mem::replace(counter, now) != now);
        }
        moved
    }

    /// Shows what is new of a tenant, until nobody follows it.
    async fn show(
        &self,
        tenant: TenantId,
        mut counter: watch::Receiver<Counter>,
        shown: watch::Sender<Shown>,
    ) {
        // The last row that was shown; none while followers have to look by themselves.
        let mut last = None;
        loop {
            tokio::select! {
                // Its sender goes with the entry, which goes below.
                _ = counter.changed() => {}
                () = shown.closed() => match self.forget(tenant) {
                    true => return,
                    // Somebody came at the last moment.
                    false => continue,
                },
            }
            let at = *counter.borrow_and_update();
            last = match (at, last) {
                (Counter::At(_), Some(last)) => self.show_behind(tenant, last, &shown).await,
                // What was stored before the first look some follower may not have seen.
                (Counter::At(at), None) => {
                    shown.send_replace(Shown::Something);
                    Some(at)
                }
                (Counter::Unknown | Counter::Gone, _) => {
                    shown.send_replace(Shown::Something);
                    None
                }
            };
        }
    }

    /// Shows all behind a position, and answers the last one shown; none where it could not be read, or is too large, which
    /// followers find out by themselves.
    async fn show_behind(
        &self,
        tenant: TenantId,
        mut behind: i64,
        shown: &watch::Sender<Shown>,
    ) -> Option<i64> {
        loop {
            let new = self.reading.new_behind(tenant, behind, SHOWN_ROWS).await;
            let Ok(Some(rows)) = new.map(|rows| rows.filter(|rows| bytes(rows) <= SHOWN_BYTES)) else {
                shown.send_replace(Shown::Something);
                return None;
            };
            let at_end = (rows.len() as i64) < SHOWN_ROWS;
            if let Some(last) = rows.last().map(|row| row.position) {
                let rows = rows.into();
                shown.send_replace(Shown::These(New { behind, rows }));
                behind = last;
            }
            if at_end || shown.is_closed() {
                return Some(behind);
            }
        }
    }

    /// Forgets a tenant that nobody follows any more; answers whether that is so.
    fn forget(&self, tenant: TenantId) -> bool {
        let mut followed = self.followed();
        let unfollowed = |tail: &Tail| tail.shown.receiver_count() == 0;
        let forgotten = followed.get(&tenant).is_none_or(unfollowed);
        if forgotten {
            followed.remove(&tenant);
        }
        forgotten
    }

    fn followed(&self) -> MutexGuard<'_, HashMap<TenantId, Tail>> {
        // Nothing that holds the lock can leave it half changed.
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes(rows: &[Message]) -> usize {
    rows.iter().map(|row| row.payload.len()).sum()
}
