//! Lanes that wait for something, in the order in which they came. Pure.

use std::collections::{HashSet, VecDeque};

use common::id::TenantId;

/// Lanes that wait, each once.
#[derive(Debug, Default)]
pub(super) struct Turns {
    order: VecDeque<TenantId>,
    within: HashSet<TenantId>,
}

impl Turns {
    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Behind all others, if it does not wait already.
    pub(super) fn join(&mut self, tenant: TenantId) {
        if self.within.insert(tenant) {
            self.order.push_back(tenant);
        }
    }

    /// Before all others, if it does not wait already.
    pub(super) fn join_first(&mut self, tenant: TenantId) {
        if self.within.insert(tenant) {
            self.order.push_front(tenant);
        }
    }

    /// The first.
    pub(super) fn next(&mut self) -> Option<TenantId> {
        let tenant = self.order.pop_front()?;
        self.within.remove(&tenant);
        Some(tenant)
    }
}
