//! What the daemon's lanes really do, for the control plane and for metrics.
//!
//! Shards write, the fleet client takes what has changed, metrics read. Bounded by the lanes.

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use common::id::TenantId;
use tokio::sync::Notify;

use super::Problem;

/// What a lane really does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    /// The revision of the assignment that it runs.
    pub(crate) revision: i64,
    /// Where it stands.
    pub(crate) state: Standing,
    /// How many workers it has.
    pub(crate) workers: u32,
    /// How many of them are storing messages.
    pub(crate) busy: u32,
    /// Messages delivered and not yet settled.
    pub(crate) held: u32,
    /// When the oldest of those that are to be stored was published, or else delivered. For metrics alone.
    pub(crate) oldest: Option<SystemTime>,
    /// What is wrong with it.
    pub(crate) problem: Option<Problem>,
    /// How many bytes one of its messages takes, if that is known.
    pub(crate) message_bytes: Option<NonZeroU32>,
}

impl Observed {
    /// A lane that is gone.
    pub(crate) fn stopped(revision: i64) -> Self {
        Self {
            revision,
            state: Standing::Stopped,
            workers: 0,
            busy: 0,
            held: 0,
            oldest: None,
            problem: None,
            message_bytes: None,
        }
    }

    /// Whether the control plane would hear the same.
    fn tells_the_same(&self, other: &Self) -> bool {
        let Self {
            revision,
            state,
            workers,
            busy,
            held,
            oldest: _,
            problem,
            message_bytes,
        } = self;
        (*revision, *state, *workers, *busy, *held, problem, *message_bytes)
            == (
                other.revision,
                other.state,
                other.workers,
                other.busy,
                other.held,
                &other.problem,
                other.message_bytes,
            )
    }
}

/// Where a lane stands, as others see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has no consumer yet, or no longer.
    Starting,
    /// Its consumer is registered.
    Running,
    /// It is gone.
    Stopped,
}

/// What the lanes do, and which of them changed.
#[derive(Debug, Default)]
pub(crate) struct Board {
    inner: Mutex<Inner>,
    changed: Notify,
    urgent: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    lanes: HashMap<TenantId, Observed>,
    changed: HashSet<TenantId>,
    /// Those of them that started, stopped, took a revision, or got or lost a problem: somebody may be waiting for that.
    urgent: HashSet<TenantId>,
}

impl Board {
    /// A lane does this now.
    pub(crate) fn set(&self, tenant: TenantId, observed: Observed) {
        let mut inner = self.inner();
        let before = inner.lanes.get(&tenant);
        let told = before.is_some_and(|before| before.tells_the_same(&observed));
        let known = before.is_some_and(|before| {
            (before.state, before.revision, before.problem.is_some())
                == (observed.state, observed.revision, observed.problem.is_some())
        });
        if told {
            inner.lanes.insert(tenant, observed);
            return;
        }
        inner.changed.insert(tenant);
        inner.lanes.insert(tenant, observed);
        if !known {
            inner.urgent.insert(tenant);
            self.urgent.notify_one();
        }
        self.changed.notify_one();
    }

    /// Takes up to `max` lanes that changed. A lane that is gone is told of once.
    pub(crate) fn take_changed(&self, max: usize) -> Vec<(TenantId, Observed)> {
        let mut inner = self.inner();
        let tenants: Vec<_> = inner.changed.iter().take(max).copied().collect();
        inner.take(tenants)
    }

    /// Takes up to `max` lanes that started, stopped or took a revision.
    pub(crate) fn take_urgent(&self, max: usize) -> Vec<(TenantId, Observed)> {
        let mut inner = self.inner();
        let tenants: Vec<_> = inner.urgent.iter().take(max).copied().collect();
        inner.take(tenants)
    }

    /// Counts every lane as changed: somebody new listens.
    pub(crate) fn tell_all(&self) {
        let mut inner = self.inner();
        inner.changed = inner.lanes.keys().copied().collect();
        self.changed.notify_one();
    }

    /// Completes when something has changed since the call before.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Completes when a lane has started, stopped or taken a revision since the call before.
    pub(crate) async fn urgent(&self) {
        self.urgent.notified().await;
    }

    /// Every lane.
    pub(crate) fn lanes(&self) -> Vec<(TenantId, Observed)> {
        self.inner()
            .lanes
            .iter()
            .map(|(tenant, observed)| (*tenant, observed.clone()))
            .collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing that holds the lock can leave it half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn take(&mut self, tenants: Vec<TenantId>) -> Vec<(TenantId, Observed)> {
        let mut taken = Vec::with_capacity(tenants.len());
        for tenant in tenants {
            self.changed.remove(&tenant);
            self.urgent.remove(&tenant);
            if let Some(observed) = self.lanes.get(&tenant).cloned() {
                if observed.state == Standing::Stopped {
                    self.lanes.remove(&tenant);
                }
                taken.push((tenant, observed));
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn observed(state: Standing, busy: u32) -> Observed {
        Observed {
            revision: 1,
            state,
            workers: 3,
            busy,
            held: 0,
            oldest: None,
            problem: None,
            message_bytes: None,
        }
    }

    #[test]
    fn what_is_for_metrics_alone_is_not_told() {
        let (board, tenant) = (Board::default(), TenantId(Uuid::from_u128(1)));
        board.set(tenant, observed(Standing::Running, 0));
        assert_eq!(board.take_changed(9).len(), 1);
        let older = Observed {
            oldest: Some(SystemTime::UNIX_EPOCH),
            ..observed(Standing::Running, 0)
        };
        board.set(tenant, older.clone());
        assert!(board.take_changed(9).is_empty());
        assert_eq!(board.lanes(), [(tenant, older)]);
    }

    #[tokio::test]
    async fn only_what_changed_is_told_and_the_end_once() {
        let (board, tenant) = (Board::default(), TenantId(Uuid::from_u128(1)));
        board.set(tenant, observed(Standing::Running, 0));
        board.urgent().await;
        board.set(tenant, observed(Standing::Running, 1));
        assert_eq!(board.take_changed(9), [(tenant, observed(Standing::Running, 1))]);
        assert!(board.take_changed(9).is_empty());
        board.tell_all();
        assert_eq!(board.take_changed(9).len(), 1);
        board.set(tenant, observed(Standing::Stopped, 0));
        board.urgent().await;
        assert_eq!(board.take_changed(9).len(), 1);
        assert!(board.lanes().is_empty());
    }

    #[test]
    fn what_somebody_may_wait_for_is_told_without_the_rest() {
        let (board, [one, other]) = (Board::default(), [1, 2].map(|n| TenantId(Uuid::from_u128(n))));
        for tenant in [one, other] {
            board.set(tenant, observed(Standing::Running, 0));
        }
        assert_eq!(board.take_urgent(1).len(), 1);
        assert_eq!(board.take_urgent(9).len(), 1);
        board.set(one, observed(Standing::Running, 1));
        assert!(board.take_urgent(9).is_empty());
        board.set(other, observed(Standing::Stopped, 0));
        assert_eq!(board.take_urgent(9), [(other, observed(Standing::Stopped, 0))]);
        assert_eq!(board.take_changed(9), [(one, observed(Standing::Running, 1))]);
    }
}
