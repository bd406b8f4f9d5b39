//! Tenants of which something was missed: whoever notices says so here, and the reconciler looks at once.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use common::id::TenantId;
use tokio::sync::Notify;

/// How many may wait. Beyond, a tenant has its turn among all others.
const TENANTS_MAX: usize = 10_000;

/// A handle.
#[derive(Clone, Debug, Default)]
pub(crate) struct Missed {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    tenants: Mutex<BTreeSet<TenantId>>,
    noticed: Notify,
}

impl Missed {
    /// Something of a tenant was missed.
    pub(crate) fn note(&self, tenant: TenantId) {
        let mut tenants = self.tenants();
        if tenants.len() < TENANTS_MAX {
            tenants.insert(tenant);
            self.inner.noticed.notify_one();
        }
    }

    /// Waits until there is one, and takes `max` of them.
    pub(super) async fn take(&self, max: usize) -> Vec<TenantId> {
        loop {
            // Before looking: what is noted meanwhile completes it.
            let noticed = self.inner.noticed.notified();
            let taken: Vec<_> = {
                let mut tenants = self.tenants();
                let taken: Vec<_> = tenants.iter().take(max).copied().collect();
                taken.iter().for_each(|tenant| {
                    tenants.remove(tenant);
                });
                taken
            };
            if !taken.is_empty() {
                return taken;
            }
            noticed.await;
        }
    }

    fn tenants(&self) -> MutexGuard<'_, BTreeSet<TenantId>> {
        // Held for a moment at a time; nothing can leave it half changed.
        self.inner.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use uuid::Uuid;

    use super::*;

    #[tokio::test]
    async fn a_tenant_that_is_missed_often_is_looked_at_once() {
        let (missed, [one, two]) = (Missed::default(), [1, 2].map(|n| TenantId(Uuid::from_u128(n))));
        for tenant in [two, one, two] {
            missed.note(tenant);
        }
        assert_eq!(missed.take(1).await, [one]);
        assert_eq!(missed.take(9).await, [two]);
        assert_eq!(missed.take(9).now_or_never(), None);
        missed.note(one);
        assert_eq!(missed.take(9).await, [one]);
    }
}
