//! The lanes' messages: what came, what is stored, what becomes of it. Pure.

use std::time::Duration;

use common::{broker::Verdict, id::TenantId};
use tracing::{info, warn};

use super::Lanes;
use crate::{
    clock::Now,
    commit::{Commit, Outcome, Settled},
    delivery::{Delivery, Letter},
    lane::{Event, State, Took},
    quarantine::Pace,
};

impl Lanes {
    /// Messages came.
    pub(in crate::shard) fn delivered(&mut self, tenant: TenantId, deliveries: Vec<Delivery>, now: Now) {
        let Some(lane) = self.lanes.get_mut(&tenant) else {
            // A lane outlives its consumer, so this cannot be; they would be lost to the queue all the same.
            for delivery in deliveries {
                self.acks.came(delivery.tag);
                self.actions.push(self.acks.give_back(delivery.tag));
            }
            return;
        };
        self.heard_at = Some(now.instant);
        self.filling.came(deliveries.len(), now.instant);
        for delivery in &deliveries {
            self.acks.came(delivery.tag);
            if !matches!(delivery.verdict, Some(Verdict::Deferred { .. })) {
                self.traffic.came(delivery.bytes());
            }
        }
        let neighbours = self.filling.neighbours(&self.load, now.instant);
        let had_room = lane.take_in(tenant, deliveries, self.terms.message_bytes_max, now);
        let full = lane.is_full();
        let much = lane.has_much(&self.terms.flow, neighbours)
            && self.load.has_much(tenant, lane.share(), now.instant);
        match had_room {
            true => {
                self.pursue(tenant, now);
                // It waits in its queue meanwhile.
                if full || much {
                    self.resize(tenant, now);
                }
            }
            false => {
                let until = lane.room.until().unwrap_or(now.instant);
                self.on(tenant, Event::Park { until }, now);
            }
        }
    }

    /// Fills a commit, if there is something to store. Only while none is under way.
    pub(in crate::shard) fn next_commit(&mut self, now: Now) -> Option<Commit> {
        let portions = self
            .filling
            .fill(&mut self.lanes, &self.load, &self.terms.flow, now.instant);
        for portion in &portions {
            self.tell(portion.tenant);
        }
        (!portions.is_empty()).then_some(Commit {
            generation: self.generation,
            portions,
        })
    }

    /// Fills a commit with what a lane under suspicion has, if any of this pace has. Only while none such is under way.
    pub(in crate::shard) fn next_apart(&mut self, pace: Pace, now: Now) -> Option<Commit> {
        let apart = match pace {
            Pace::Quick => &mut self.quick,
            Pace::Slow => &mut self.slow,
        };
        let portion = apart.fill(&mut self.lanes, &self.terms.flow, now.instant)?;
        self.tell(portion.tenant);
        Some(Commit {
            generation: self.generation,
            portions: vec![portion],
        })
    }

    /// What became of a commit.
    pub(in crate::shard) fn settled(&mut self, outcome: Outcome, now: Now) {
        let current = outcome.generation == self.generation;
        // Of an earlier life of the channel: what is stored comes again, and is passed over then.
        let settled = if current { outcome.settled } else { Vec::new() };
        let rows = settled.iter().map(|settled| settled.stored.len()).sum();
        if rows > 0 {
            self.ordinary += (outcome.took.saturating_sub(self.ordinary)) / 8;
            self.ordinary -= (self.ordinary.saturating_sub(outcome.took)) / 8;
        }
        self.filling.settled(rows, outcome.outage.as_deref(), now);
        for settled in settled {
            self.settled_lane(settled, outcome.took, now);
        }
        self.actions.extend(self.acks.advance());
        if self.load.has_slowed() {
            self.actions.extend(self.acks.around_slowed());
        }
    }

    /// What became of a commit of a lane under suspicion.
    pub(in crate::shard) fn settled_apart(&mut self, pace: Pace, outcome: Outcome, now: Now) {
        match pace {
            Pace::Quick => self.quick.settled(outcome.outage.as_deref(), now),
            Pace::Slow => self.slow.settled(outcome.outage.as_deref(), now),
        }
        if outcome.generation == self.generation {
            for settled in outcome.settled {
                self.settled_lane(settled, outcome.took, now);
            }
            self.actions.extend(self.acks.advance());
        }
    }

    fn settled_lane(&mut self, settled: Settled, took: Duration, now: Now) {
        let tenant = settled.tenant;
        let Some(lane) = self.lanes.get_mut(&tenant) else {
            return;
        };
        let took = Took {
            this: took,
            ordinary: self.ordinary,
        };
        for tag in lane.settle(settled, took, &self.terms.retry, now) {
            self.acks.settle(tag);
        }
        self.give_back_if_draining(tenant, now);
        self.pursue(tenant, now);
    }

    /// Whether a letter was published.
    pub(in crate::shard) fn published(
        &mut self,
        tenant: TenantId,
        letter: Box<Letter>,
        result: Result<(), impl std::fmt::Display>,
        now: Now,
    ) {
        let Some(lane) = self.lanes.get_mut(&tenant) else {
            return;
        };
        match result {
            Ok(()) => {
                if lane.outbox.published() {
                    info!(%tenant, "what failed can be published again");
                }
                lane.buffer.settle(1, now.instant);
                self.acks.settle(letter.tag);
                self.actions.extend(self.acks.advance());
            }
            Err(error) => {
                let (why, beyond) = (error.to_string(), letter.held.is_beyond());
                if lane.outbox.failed(letter, &why, now) {
                    warn!(%tenant, why, "what failed cannot be published; holding it");
                }
                if beyond {
                    // Others wait for its room.
                    let until = lane.outbox.trouble().until().unwrap_or(now.instant);
                    self.on(tenant, Event::Park { until }, now);
                }
                self.give_back_if_draining(tenant, now);
            }
        }
        self.pursue(tenant, now);
    }

    /// What a lane that ends has left over. Its consumer is gone; where it is not, its end gives back what is there then.
    fn give_back_if_draining(&mut self, tenant: TenantId, now: Now) {
        let lane = self.lanes.get(&tenant);
        if lane.is_some_and(|lane| lane.consumer.state() == State::Draining) {
            self.give_back_idle(tenant, now);
        }
    }

    /// Gives back everything of a lane that nobody works on.
    pub(super) fn give_back_idle(&mut self, tenant: TenantId, now: Now) {
        let Some(lane) = self.lanes.get_mut(&tenant) else {
            return;
        };
        // What is stored first.
        self.actions.extend(self.acks.advance());
        for tag in lane.take_idle(now.instant) {
            self.actions.push(self.acks.give_back(tag));
        }
        self.actions.extend(self.acks.advance());
    }
}
