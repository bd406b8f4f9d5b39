//! What a shard's lanes consume: their consumers' lives, what those bring, and how much. Pure.

use std::time::{Duration, Instant};

use common::{broker::Verdict, id::TenantId};
use tracing::warn;

use super::lanes::{Lanes, Now};
use crate::{
    delivery::Delivery,
    lane::{Event, HELD, Health, State, worth_changing},
};

/// A lane that settles nothing for this long gives its messages back: well before the broker's `consumer_timeout`,
/// 30 minutes, closes the channel over it.
const STUCK_MAX: Duration = Duration::from_secs(600);
/// How long such a lane then leaves its queue alone.
const PARKED: Duration = Duration::from_secs(30);
/// Consumers replaced for another prefetch from one tick to the next at most: each pauses its lane for two round trips.
pub(super) const RESIZES_MAX: usize = 32;

impl Lanes {
    /// A lane's consumer is registered.
    pub(super) fn subscribed(&mut self, tenant: TenantId, now: Now) {
        if let Some(lane) = self.lanes.get_mut(&tenant) {
            self.line.answered(lane.prefetch);
            lane.unavailable.reset();
            lane.silent_since = now.instant;
        }
        self.on(tenant, Event::Subscribed, now);
    }

    /// A lane's consumer could not be registered.
    pub(super) fn unavailable(&mut self, tenant: TenantId, why: &str, now: Now) {
        if let Some(lane) = self.lanes.get(&tenant) {
            self.line.answered(lane.prefetch);
        }
        let Some(retry_at) = self.retry_consumer(tenant, now, why) else {
            return;
        };
        self.on(tenant, Event::Unavailable { retry_at }, now);
    }

    /// A lane's consumer is gone.
    pub(super) fn ended(&mut self, tenant: TenantId, now: Now) {
        let unasked = self
            .lanes
            .get(&tenant)
            .is_some_and(|lane| lane.state == State::Running);
        let retry_at = match unasked {
            true => self.retry_consumer(tenant, now, "the broker ended the consumer"),
            false => Some(now.instant),
        };
        if let Some(retry_at) = retry_at {
            self.on(tenant, Event::Ended { retry_at }, now);
        }
    }

    fn retry_consumer(&mut self, tenant: TenantId, now: Now, why: &str) -> Option<Instant> {
        let lane = self.lanes.get_mut(&tenant)?;
        if !lane.unavailable.failing() {
            warn!(%tenant, why, "the queue cannot be consumed; trying on");
        }
        let retry_at = lane.unavailable.fail(now.instant, now.random);
        self.timers.insert((retry_at, tenant));
        Some(retry_at)
    }

    /// Messages came.
    pub(super) fn delivered(&mut self, tenant: TenantId, deliveries: Vec<Delivery>, now: Now) {
        let Some(lane) = self.lanes.get_mut(&tenant) else {
            // A lane outlives its consumer, so this cannot be; they would be lost to the queue all the same.
            for delivery in deliveries {
                self.give_back(delivery.tag);
            }
            return;
        };
        if lane.held == 0 {
            lane.stuck_since = now.instant;
        }
        lane.held += deliveries.len();
        (lane.silent_since, lane.health) = (now.instant, Health::Well);
        for delivery in deliveries {
            self.watermark.came(delivery.tag);
            if let Some(Verdict::Deferred { bytes }) = delivery.verdict {
                lane.traffic.came(usize::try_from(bytes).unwrap_or(usize::MAX));
                lane.deferred.push(delivery.tag);
                continue;
            }
            self.traffic.came(delivery.body.len());
            lane.traffic.came(delivery.body.len());
            match delivery.decode(tenant, self.message_bytes_max, now.time) {
                Ok(message) => lane.push(message),
                Err(letter) => lane.letters.push_back(letter),
            }
        }
        if lane.deferred.is_empty() {
            lane.crowded.reset();
        } else if !lane.crowded.holds(now.instant) {
            let until = lane.crowded.fail(now.instant, now.random);
            self.wake_at(until, tenant);
            self.on(tenant, Event::Park { until }, now);
        }
        self.look_at(tenant, now);
    }

    /// Replaces a lane's consumer if it is worth having another prefetch.
    pub(super) fn resize(&mut self, tenant: TenantId, now: Now) {
        let count = self.lanes.len();
        let Some(lane) = self.lanes.get(&tenant) else {
            return;
        };
        let wants = self.budget.prefetch(count, lane.traffic, lane.long_held());
        if self.resizes_left > 0 && lane.state == State::Running && worth_changing(lane.prefetch, wants) {
            self.resizes_left -= 1;
            self.on(tenant, Event::Resize, now);
        }
    }

    /// What is to be done now and then.
    pub(super) fn tick(&mut self, now: Now) {
        self.line.tick();
        self.ack_around();
        self.look_at_the_silent(now);
        self.resizes_left = RESIZES_MAX;
        for tenant in self.lanes.keys().copied().collect::<Vec<_>>() {
            self.look_after(tenant, now);
        }
    }

    fn look_after(&mut self, tenant: TenantId, now: Now) {
        let Some(lane) = self.lanes.get(&tenant) else {
            return;
        };
        let stuck = lane.held > 0 && now.instant.saturating_duration_since(lane.stuck_since) > STUCK_MAX;
        let until = if stuck {
            warn!(%tenant, "nothing could be settled for {} s; giving the messages back", STUCK_MAX.as_secs());
            now.instant + PARKED
        } else if lane.long_held() && lane.held > HELD && lane.state == State::Running {
            // It consumes again at once, and holds little until it can be written.
            now.instant
        } else {
            return self.resize(tenant, now);
        };
        self.wake_at(until, tenant);
        self.on(tenant, Event::Park { until }, now);
    }
}
