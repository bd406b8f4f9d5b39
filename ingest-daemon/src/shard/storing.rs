//! What a shard's lanes store: filling commits, and what follows from their outcomes. Pure.

use std::time::{Duration, Instant};

use common::id::TenantId;
use tracing::{info, warn};

use super::lanes::{Lanes, Now};
use crate::{
    commit::{Commit, Hold, Outcome, Portion, Settled, thin},
    delivery::Letter,
    lane::State,
};

/// How long messages gather after a thin commit: with many busy tenants one every few milliseconds takes a row or two
/// of each. (Measured, 500,000 messages of 1,000 tenants: 28,000/s and 34,000/s without, 38,000/s with. 5,000 tenants:
/// no difference beyond the noise.)
const GATHERING: Duration = Duration::from_millis(40);
/// How long a shard counts on quiet tenants that shared a commit with a full queue to come again.
const COMPANY: Duration = Duration::from_secs(1);

impl Lanes {
    /// Fills a commit, if there is something to store: the lane that waits longest first. Only while none is under
    /// way.
    pub(super) fn next_commit(&mut self, now: Now) -> Option<Commit> {
        if self.outage.holds(now.instant) || self.gathers(now.instant) {
            return None;
        }
        let mut chosen = Vec::new();
        let mut workers = 0;
        while chosen.len() < self.limits.tenants
            && let Some(tenant) = self.ready.pop_front()
        {
            let Some(lane) = self.lanes.get_mut(&tenant) else {
                continue;
            };
            lane.queued = false;
            // It may have been held or stopped since it was queued; it is queued again when that is over.
            if !lane.ready(now.instant) {
                continue;
            }
            if lane.suspect {
                if chosen.is_empty() {
                    chosen.push(tenant);
                } else {
                    lane.queued = true;
                    self.ready.push_front(tenant);
                }
                break;
            }
            workers += lane.workers;
            chosen.push(tenant);
        }
        let company = self.company_until.is_some_and(|until| now.instant < until);
        let mut allowance = self.limits.allowance(chosen.len(), workers, company);
        let mut portions = Vec::with_capacity(chosen.len());
        let mut left = Vec::new();
        let (mut quiet, mut full) = (false, false);
        for tenant in chosen {
            let Some(lane) = self.lanes.get_mut(&tenant) else {
                continue;
            };
            if allowance.spent() {
                lane.queued = true;
                left.push(tenant);
                continue;
            }
            let messages = lane.take(&mut allowance);
            match lane.is_waiting() {
                true => full = true,
                false => quiet = true,
            }
            self.tell(tenant);
            // One that used up all it was given has more to come, and gets it at once.
            self.resize(tenant, now);
            portions.push(Portion { tenant, messages });
        }
        if quiet && full {
            self.company_until = Some(now.instant + COMPANY);
        }
        // They were first, and stay first.
        for tenant in left.into_iter().rev() {
            self.ready.push_front(tenant);
        }
        (!portions.is_empty()).then_some(Commit {
            generation: self.generation,
            portions,
        })
    }

    /// Whether messages are gathering for the next commit.
    pub(super) fn gathers(&self, now: Instant) -> bool {
        self.gathering_until.is_some_and(|until| now < until)
    }

    /// What became of a commit.
    pub(super) fn settled(&mut self, outcome: Outcome, now: Now) {
        match &outcome.outage {
            Some(why) => {
                if !self.outage.failing() {
                    warn!(why, "PostgreSQL cannot store; holding everything");
                }
                self.outage.fail(now.instant, now.random);
            }
            None if self.outage.reset() => info!("PostgreSQL stores again"),
            None => {}
        }
        if outcome.generation != self.generation {
            // The channel was lost meanwhile. What is stored comes again, and is passed over then.
            return;
        }
        let rows = outcome.settled.iter().map(|settled| settled.stored.len()).sum();
        if thin(rows, outcome.settled.len()) {
            self.gathering_until = Some(now.instant + GATHERING);
        }
        for settled in outcome.settled {
            self.settled_lane(settled, now);
        }
        self.advance();
    }

    fn settled_lane(&mut self, settled: Settled, now: Now) {
        let tenant = settled.tenant;
        let Some(lane) = self.lanes.get_mut(&tenant) else {
            return;
        };
        (lane.in_commit, lane.busy) = (0, 0);
        lane.settle(settled.stored.len(), now.instant);
        lane.put_back(settled.back);

        let mut wake_at = Vec::new();
        let suspect = lane.suspect;
        // Another daemon's commit is no trouble.
        lane.suspect =
            settled.hold.as_ref().is_some_and(|hold| *hold != Hold::Busy) || !settled.refused.is_empty();
        match settled.hold {
            Some(Hold::Busy) => wake_at.push(lane.locked.fail(now.instant, now.random)),
            Some(Hold::Unwritable(why)) => {
                if !lane.unwritable.failing() {
                    warn!(%tenant, why, "the tenant's table cannot be written; holding the tenant");
                }
                wake_at.push(lane.unwritable.fail(now.instant, now.random));
            }
            // Alone it failed again.
            Some(Hold::Suspected) if suspect => {
                if !lane.unwritable.failing() {
                    warn!(%tenant, "the tenant's table cannot be written; holding the tenant");
                }
                wake_at.push(lane.unwritable.fail(now.instant, now.random));
            }
            Some(Hold::Suspected) => {}
            Some(Hold::Unfinished) => {}
            // Nothing of it was tried, perhaps.
            None if settled.stored.is_empty() => {}
            None => {
                lane.locked.reset();
                if lane.unwritable.reset() {
                    info!(%tenant, "the tenant's table can be written again");
                }
            }
        }
        for (message, why) in settled.refused {
            let letter = message.refused(why, &self.retry, now.time);
            lane.letters.push_back(Box::new(letter));
        }
        let draining = lane.state == State::Draining;
        for message in settled.stored {
            self.watermark.settle(message.tag);
        }
        for at in wake_at {
            self.wake_at(at, tenant);
        }
        // Its consumer is gone already if it drains; else its end gives back what is there then.
        if draining {
            self.give_back_idle(tenant, now);
        }
        self.look_at(tenant, now);
    }

    /// Whether a letter was published.
    pub(super) fn published(
        &mut self,
        tenant: TenantId,
        letter: Box<Letter>,
        result: Result<(), impl std::fmt::Display>,
        now: Now,
    ) {
        let Some(lane) = self.lanes.get_mut(&tenant) else {
            return;
        };
        lane.publishing = lane.publishing.saturating_sub(1);
        match result {
            Ok(()) => {
                lane.unpublished.reset();
                lane.settle(1, now.instant);
                self.watermark.settle(letter.tag);
                self.advance();
            }
            Err(error) => {
                if !lane.unpublished.failing() {
                    warn!(%tenant, %error, "what failed cannot be published; holding it");
                }
                let at = lane.unpublished.fail(now.instant, now.random);
                lane.letters.push_front(letter);
                let draining = lane.state == State::Draining;
                self.wake_at(at, tenant);
                if draining {
                    self.give_back_idle(tenant, now);
                }
            }
        }
        self.look_at(tenant, now);
    }
}
