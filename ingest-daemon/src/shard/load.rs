//! Which lanes hold something, and which have had much lately. Pure. What is done now and then looks at these alone: ten
//! thousand idle lanes cost nothing.

use std::{
    collections::{HashMap, HashSet},
    iter,
    time::Instant,
};

use common::id::TenantId;

use super::turns::Turns;
use crate::flow::BUSY_FOR;

/// The lanes that have something.
#[derive(Debug, Default)]
pub(super) struct Load {
    holding: HashSet<TenantId>,
    busy: HashMap<TenantId, Busy>,
    /// How many workers the busy ones have together.
    workers: usize,
    /// Those that are busy no longer, and may hold too much for that.
    calmed: Turns,
    /// Those whose limit keeps from being stored what they hold.
    slowed: HashSet<TenantId>,
}

#[derive(Debug)]
struct Busy {
    until: Instant,
    workers: usize,
}

impl Load {
    /// Whether a lane holds anything.
    pub(super) fn holds(&mut self, tenant: TenantId, holds: bool) {
        match holds {
            true => self.holding.insert(tenant),
            false => self.holding.remove(&tenant),
        };
    }

    /// Whether a lane holds what its limit keeps from being stored.
    pub(super) fn is_slowed(&mut self, tenant: TenantId, slowed: bool) {
        match slowed {
            true => self.slowed.insert(tenant),
            false => self.slowed.remove(&tenant),
        };
    }

    /// Whether any does.
    pub(super) fn has_slowed(&self) -> bool {
        !self.slowed.is_empty()
    }

    /// A lane with so many workers has as much as one that has little may hold. Answers whether that is new.
    pub(super) fn has_much(&mut self, tenant: TenantId, workers: usize, now: Instant) -> bool {
        let until = now + BUSY_FOR;
        let before = self.busy.insert(tenant, Busy { until, workers });
        self.workers += workers;
        self.workers -= before.as_ref().map_or(0, |busy| busy.workers);
        before.is_none()
    }

    /// Whether a lane has had much lately.
    pub(super) fn is_busy(&self, tenant: TenantId) -> bool {
        self.busy.contains_key(&tenant)
    }

    /// How many workers those that have have together.
    pub(super) fn busy_workers(&self) -> usize {
        self.workers
    }

    /// A tick has passed: whoever has had little for long enough is busy no longer.
    pub(super) fn tick(&mut self, now: Instant) {
        let calmed = &mut self.calmed;
        self.busy.retain(|tenant, busy| {
            let stays = now < busy.until;
            if !stays {
                self.workers -= busy.workers;
                calmed.join(*tenant);
            }
            stays
        });
    }

    /// Takes up to so many of the lanes that were busy and are to hold less since.
    pub(super) fn calmed(&mut self, max: usize) -> Vec<TenantId> {
        iter::from_fn(|| self.calmed.next()).take(max).collect()
    }

    /// The lanes that hold something, or have had much lately.
    pub(super) fn lanes(&self) -> Vec<TenantId> {
        let busy = self.busy.keys().filter(|tenant| !self.holding.contains(tenant));
        self.holding.iter().chain(busy).copied().collect()
    }

    /// One that still is to hold less.
    pub(super) fn calms(&mut self, tenant: TenantId) {
        if !self.is_busy(tenant) {
            self.calmed.join(tenant);
        }
    }

    /// A lane is gone.
    pub(super) fn gone(&mut self, tenant: TenantId) {
        self.holding.remove(&tenant);
        self.slowed.remove(&tenant);
        self.workers -= self.busy.remove(&tenant).map_or(0, |busy| busy.workers);
    }
}
