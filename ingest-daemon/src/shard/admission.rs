//! Which lanes get their consumers, and when, while many wait for one. Pure.
//!
//! When a daemon starts, or a channel is opened again, every queue may be full. If all were consumed at once, each lane
//! would get a few messages at a time and have its turn every few seconds. RabbitMQ puts a queue to sleep that lies
//! still for a second: it collects its garbage and writes its index, each time; and PostgreSQL gets a row or two for
//! each of hundreds of tables. So a lane is admitted when those before it leave room. An empty queue takes none, so
//! where nothing waits all lanes consume at once. (Measured, 200,000 messages of 5,000 tenants: 20,000 to 24,000/s with
//! all at once, 26,000 to 33,000/s with room for 2,000 messages and 20 for each; no better with 3,000, or with 8 each. What
//! is better with 50 each is said at [`QUIET_MESSAGES`].)

use std::collections::{HashSet, VecDeque};

use common::id::TenantId;

use crate::flow::{ADMITTED_FIRST, ADMITTED_LEAST, LIGHT_MESSAGES, QUIET_MESSAGES};

/// The lanes that wait to be admitted.
#[derive(Debug)]
pub(super) struct Admission {
    /// Who, the one that has waited longest first. Some may have been stopped or parked since.
    waiting: VecDeque<TenantId>,
    /// How many messages may come of the consumers that were asked for.
    asked: usize,
    /// The most messages that there is room for yet.
    window: usize,
    /// How many lanes are admitted even without room.
    least: usize,
    /// Lanes that have messages of a size that is not known yet. They hold next to nothing so far, and will hold more.
    growing: HashSet<TenantId>,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            asked: 0,
            window: ADMITTED_FIRST,
            least: 0,
            growing: HashSet::new(),
        }
    }
}

impl Admission {
    /// A lane may ask for a consumer when there is room.
    pub(super) fn join(&mut self, tenant: TenantId) {
        self.waiting.push_back(tenant);
    }

    /// The lane that is admitted next, if there is room for one more where so many messages are `open`.
    pub(super) fn next(&mut self, open: usize, room: usize) -> Option<TenantId> {
        let taken = open + self.asked + self.growing.len() * QUIET_MESSAGES;
        match self.least > 0 || taken < room.min(self.window) {
            true => self.waiting.pop_front(),
            false => None,
        }
    }

    /// It was admitted: its consumer is asked for.
    pub(super) fn asked(&mut self, prefetch: u16) {
        self.least = self.least.saturating_sub(1);
        self.asked += will_hold(prefetch);
    }

    /// A consumer was answered.
    pub(super) fn answered(&mut self, prefetch: u16) {
        self.asked = self.asked.saturating_sub(will_hold(prefetch));
        self.window = (self.window + will_hold(prefetch)).min(LIGHT_MESSAGES);
    }

    /// Whether a lane has messages and will hold more of them.
    pub(super) fn grows(&mut self, tenant: TenantId, grows: bool) {
        match grows {
            true => self.growing.insert(tenant),
            false => self.growing.remove(&tenant),
        };
    }

    /// A tick has passed.
    pub(super) fn tick(&mut self) {
        self.least = ADMITTED_LEAST;
    }
}

/// How many messages a lane with this prefetch is counted with: one that is asked for with next to nothing, since its
/// messages are not known, will hold more.
fn will_hold(prefetch: u16) -> usize {
    usize::from(prefetch).max(QUIET_MESSAGES)
}
