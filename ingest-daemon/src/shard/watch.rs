//! Whose queue is looked at, and when: a lane that gets nothing may have a queue that is full. Pure.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use common::id::TenantId;

use crate::lane::Lane;

/// What waits in a queue may have come just now; it is looked at once more after this.
const AGAIN: Duration = Duration::from_secs(2);
/// Queues looked at from one tick to the next at most, each a round trip: with thousands of idle lanes each has its
/// turn within minutes.
const LOOKS_MAX: usize = 5;

/// When to see whether a lane gets what its queue has: an entry a lane.
#[derive(Debug, Default)]
pub(super) struct Watch {
    order: BTreeSet<(Instant, TenantId)>,
}

impl Watch {
    /// A lane is there.
    pub(super) fn begin(&mut self, tenant: TenantId, now: Instant) {
        self.order.insert((now, tenant));
    }

    /// The lanes whose queues are to be looked at now.
    pub(super) fn tick(&mut self, lanes: &HashMap<TenantId, Lane>, now: Instant) -> Vec<TenantId> {
        let mut looks = Vec::new();
        while looks.len() < LOOKS_MAX
            && let Some(&(at, tenant)) = self.order.first()
            && at <= now
        {
            self.order.pop_first();
            // One that has ended is not looked after any more.
            let Some(lane) = lanes.get(&tenant) else {
                continue;
            };
            let long_at = lane.silence.long_at();
            if lane.is_silent() && long_at <= now {
                looks.push(tenant);
            }
            self.order.insert((long_at.max(now + AGAIN), tenant));
        }
        looks
    }
}
