//! Which lanes get their consumers, and when, while many wait for one. Pure.
//!
//! When a daemon starts, or a channel is opened again, every queue may be full. If all were consumed at once, each lane
//! would get a few messages at a time and have its turn every few seconds. RabbitMQ puts a queue to sleep that lies
//! still for a second: it collects its garbage and writes its index, each time; and PostgreSQL gets a row or two for
//! each of hundreds of tables. So a lane is admitted when those before it leave room. An empty queue takes none, so
//! where nothing waits all lanes consume at once. (Measured, 200,000 messages of 5,000 tenants: 20,000 to 24,000/s with
//! all at once, 26,000 to 33,000/s with room for 2,000 messages and 20 for each; no better with 3,000, or with 8 each.)

use std::{collections::BTreeSet, time::Instant};

use common::id::TenantId;

use super::lanes::{Lanes, Now};
use crate::lane::{Event, LIGHT, Lane, State};

/// The room for messages whose size is not known yet. It grows with every consumer that is answered, so that the first
/// ones' messages tell how many of the next ones' there is room for.
const FIRST: usize = 64;
/// How many lanes are admitted from one tick to the next at least: nobody waits for neighbours that are never done.
const LEAST: usize = 25;

/// The lanes that wait to be admitted.
#[derive(Debug)]
pub(super) struct Line {
    /// Since when, and who.
    waiting: BTreeSet<(Instant, TenantId)>,
    /// How many messages may come of the consumers that were asked for.
    asked: usize,
    /// The most messages that there is room for yet.
    window: usize,
    /// How many lanes are admitted even without room.
    least: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            waiting: BTreeSet::new(),
            asked: 0,
            window: FIRST,
            least: 0,
        }
    }
}

impl Line {
    /// A lane that has waited to ask for a consumer since then may now.
    pub(super) fn join(&mut self, since: Instant, tenant: TenantId) {
        self.waiting.insert((since, tenant));
    }

    /// A consumer was asked for.
    pub(super) fn asked(&mut self, prefetch: u16) {
        self.asked += usize::from(prefetch);
    }

    /// It was answered.
    pub(super) fn answered(&mut self, prefetch: u16) {
        let prefetch = usize::from(prefetch);
        self.asked = self.asked.saturating_sub(prefetch);
        self.window = (self.window + prefetch).min(LIGHT);
    }

    /// A tick has passed.
    pub(super) fn tick(&mut self) {
        self.least = LEAST;
    }
}

impl Lanes {
    /// Asks for the consumers that there is room for. Only while there is a channel.
    pub(super) fn admit(&mut self, now: Now) {
        let room = self.budget.room(self.traffic).min(self.line.window);
        while !self.line.waiting.is_empty()
            && (self.line.least > 0 || self.watermark.open() + self.line.asked < room)
        {
            let Some((until, tenant)) = self.line.waiting.pop_first() else {
                break;
            };
            // It may have been stopped or parked since.
            let waits = |lane: &Lane| lane.state == State::Waiting { until };
            if self.lanes.get(&tenant).is_some_and(waits) {
                self.line.least = self.line.least.saturating_sub(1);
                self.on(tenant, Event::Due, now);
            }
        }
    }
}
