//! The lanes' consumers: who gets one, with what prefetch, and what becomes of it. Pure.

use std::time::{Duration, Instant};

use common::id::TenantId;
use tracing::{info, warn};

use super::Lanes;
use crate::{
    clock::Now,
    flow::{HELD_MESSAGES, RESIZES_MAX},
    lane::{Change, Event, Remedy, State},
    shard::Action,
};

/// A lane that settles nothing for this long gives its messages back: well before the broker's `consumer_timeout`,
/// 30 minutes, closes the channel over it.
const STUCK_MAX: Duration = Duration::from_secs(600);
/// How long such a lane then leaves its queue alone.
const PARKED: Duration = Duration::from_secs(30);

impl Lanes {
    /// Asks for the consumers that there is room for. Only while there is a channel.
    pub(in crate::shard) fn admit(&mut self, now: Now) {
        let room = self.terms.flow.room(self.traffic);
        while let Some(tenant) = self.admission.next(self.acks.open(), room) {
            self.on(tenant, Event::Admitted, now);
        }
    }

    /// A lane's consumer is registered.
    pub(in crate::shard) fn subscribed(&mut self, tenant: TenantId, now: Now) {
        if let Some(lane) = self.lanes.get_mut(&tenant) {
            let prefetch = lane.consumer.prefetch();
            info!(%tenant, prefetch, "lane consumes");
            self.admission.answered(prefetch);
            if lane.registered(now.instant) {
                info!(%tenant, "the queue can be consumed again");
            }
        }
        self.on(tenant, Event::Subscribed, now);
        // What it is to hold may have changed since it asked.
        self.resize(tenant, now);
    }

    /// The queue that a lane could not consume is there.
    pub(in crate::shard) fn seen(&mut self, tenant: TenantId, now: Now) {
        let Some(lane) = self.lanes.get_mut(&tenant) else {
            return;
        };
        self.admission.answered(lane.consumer.prefetch());
        let retry_at = lane.consumer.seen(now.instant);
        self.on(tenant, Event::Unavailable { retry_at }, now);
    }

    /// A lane's consumer could not be registered.
    pub(in crate::shard) fn unavailable(&mut self, tenant: TenantId, why: &str, now: Now) {
        if let Some(lane) = self.lanes.get(&tenant) {
            self.admission.answered(lane.consumer.prefetch());
        }
        if let Some(retry_at) = self.consumer_failed(tenant, why, now) {
            self.on(tenant, Event::Unavailable { retry_at }, now);
        }
    }

    /// A lane's consumer is gone.
    pub(in crate::shard) fn ended(&mut self, tenant: TenantId, now: Now) {
        let Some(lane) = self.lanes.get(&tenant) else {
            return;
        };
        let retry_at = match lane.consumer.state() {
            State::Running => self.consumer_failed(
                tenant,
                "the broker ended the consumer, as it does when the queue is deleted",
                now,
            ),
            _ => Some(now.instant),
        };
        if let Some(retry_at) = retry_at {
            self.on(tenant, Event::Ended { retry_at }, now);
        }
    }

    fn consumer_failed(&mut self, tenant: TenantId, why: &str, now: Now) -> Option<Instant> {
        let lane = self.lanes.get_mut(&tenant)?;
        let (retry_at, new) = lane.consumer.failed(why, now);
        if new {
            warn!(%tenant, why, "the queue cannot be consumed; retrying");
        }
        Some(retry_at)
    }

    /// So many messages wait in a lane's queue.
    pub(in crate::shard) fn looked(&mut self, tenant: TenantId, waiting: u32, now: Now) {
        let Some(lane) = self.lanes.get_mut(&tenant) else {
            return;
        };
        if !lane.is_silent() || lane.silence.long_at() > now.instant {
            return;
        }
        let silent = lane.silence.length(now.instant);
        let restart_at = match lane.silence.looked(waiting, now) {
            Remedy::Wait => None,
            Remedy::RestartLane => Some(now.instant),
            // Only where nothing comes to anybody: otherwise it is this queue that is to blame and not the channel, and
            // what is on its way to others would be redelivered.
            Remedy::RestartMore { .. }
                if self.acks.open() == 0 && self.heard_at.is_none_or(|at| now.instant >= at + silent) =>
            {
                let why = format!("{waiting} messages wait for tenant {tenant} and none is delivered");
                self.actions.extend([Action::Restarted, Action::GiveUp(why)]);
                None
            }
            Remedy::RestartMore { at } => Some(at),
        };
        if let Some(until) = restart_at {
            warn!(%tenant, waiting, ?silent, "messages wait and none is delivered; restarting the lane");
            self.actions.push(Action::Restarted);
            self.on(tenant, Event::Park { until }, now);
        } else {
            self.pursue(tenant, now);
        }
    }

    /// Looks after a lane that has something.
    pub(super) fn look_after(&mut self, tenant: TenantId, came: bool, now: Now) {
        let Some(lane) = self.lanes.get(&tenant) else {
            return;
        };
        if lane.buffer.stuck_for(now.instant) > STUCK_MAX {
            warn!(%tenant, "nothing could be settled for {} s; giving the messages back", STUCK_MAX.as_secs());
            let until = now.instant + PARKED;
            self.on(tenant, Event::Park { until }, now);
        } else if lane.holds_for(STUCK_MAX) && lane.consumer.state() == State::Running {
            info!(%tenant, "its limit is far below what the lane had taken; giving the messages back");
            self.on(tenant, Event::Park { until: now.instant }, now);
        } else if lane.is_long_unwritable()
            && lane.buffer.unsettled() > HELD_MESSAGES
            && lane.consumer.state() == State::Running
        {
            // It consumes again at once, and holds little until it can be written.
            self.on(tenant, Event::Park { until: now.instant }, now);
        } else if came || lane.is_long_unwritable() {
            // Nothing more may come to one that cannot be written until it may hold more.
            self.resize(tenant, now);
        }
    }

    /// Gives some of the lanes that had much, and have not any more, less to hold. Those that still get something now and
    /// then have their turn again later.
    pub(super) fn calm(&mut self, now: Now) {
        let neighbours = self.filling.neighbours(&self.load, now.instant);
        for tenant in self.load.calmed(RESIZES_MAX) {
            self.resize(tenant, now);
            let lane = self.lanes.get(&tenant);
            let change = lane.and_then(|lane| lane.change(&self.terms.flow, false, neighbours));
            if change == Some(Change::Shrink) {
                self.load.calms(tenant);
            }
        }
    }

    /// Replaces a lane's consumer if it is worth having another prefetch.
    pub(super) fn resize(&mut self, tenant: TenantId, now: Now) {
        let (busy, neighbours) = (
            self.load.is_busy(tenant),
            self.filling.neighbours(&self.load, now.instant),
        );
        let Some(lane) = self.lanes.get(&tenant) else {
            return;
        };
        if lane.wants_another(&self.terms.flow, busy, neighbours, now.instant)
            && (self.resizes_left > 0 || lane.has_become_known())
        {
            self.resizes_left = self.resizes_left.saturating_sub(1);
            self.on(tenant, Event::Resize, now);
        }
    }
}
