//! When which lane is due next. Pure.

use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};

use common::id::TenantId;

/// One order of the lanes that are due at some time.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    order: BTreeSet<(Instant, TenantId)>,
    due: HashMap<TenantId, Instant>,
}

impl Agenda {
    /// A lane is due then, or never.
    pub(super) fn set(&mut self, tenant: TenantId, due: Option<Instant>) {
        let before = match due {
            Some(due) => self.due.insert(tenant, due),
            None => self.due.remove(&tenant),
        };
        if before == due {
            return;
        }
        if let Some(before) = before {
            self.order.remove(&(before, tenant));
        }
        self.order.extend(due.map(|due| (due, tenant)));
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(due, _)| *due)
    }

    /// Takes a lane that is due by now.
    pub(super) fn take(&mut self, now: Instant) -> Option<TenantId> {
        let &(due, tenant) = self.order.first().filter(|(due, _)| *due <= now)?;
        self.order.remove(&(due, tenant));
        self.due.remove(&tenant);
        Some(tenant)
    }
}
