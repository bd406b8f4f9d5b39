//! Whether lanes get what their queues have: a lane that stays empty while its queue does not is unwell, whatever the
//! reason. It is restarted, and if that does not help the channel is. Pure.

use std::time::{Duration, Instant};

use common::id::TenantId;
use tracing::warn;

use super::lanes::{Action, Lanes, Now};
use crate::lane::{Event, Health, Lane, State};

/// A lane that has had nothing for this long has its queue looked at.
const SILENCE: Duration = Duration::from_secs(10);
/// What waits in the queue then may have come just now; it is looked at once more after this.
const AGAIN: Duration = Duration::from_secs(2);
/// Queues looked at from one tick to the next at most, each a round trip: with thousands of idle lanes each has its
/// turn within minutes.
const LOOKS_MAX: usize = 5;

impl Lanes {
    /// Looks at the queues of lanes that have had nothing for long.
    pub(super) fn look_at_the_silent(&mut self, now: Now) {
        let mut looks = 0;
        while looks < LOOKS_MAX
            && let Some(&(at, tenant)) = self.looks.first()
            && at <= now.instant
        {
            self.looks.pop_first();
            // A lane that has ended, or has begun anew since.
            let Some(lane) = self.lanes.get(&tenant).filter(|lane| lane.look_at == at) else {
                continue;
            };
            let due = lane.silent_since + SILENCE;
            if is_silent(lane) && due <= now.instant {
                looks += 1;
                self.act(Action::Look(tenant));
            }
            self.look_later(tenant, due.max(now.instant + AGAIN));
        }
    }

    /// One look at a time is to come for each lane.
    pub(super) fn look_later(&mut self, tenant: TenantId, at: Instant) {
        if let Some(lane) = self.lanes.get_mut(&tenant) {
            lane.look_at = at;
            self.looks.insert((at, tenant));
        }
    }

    /// So many messages wait in a lane's queue.
    pub(super) fn looked(&mut self, tenant: TenantId, waiting: u32, now: Now) {
        let Some(lane) = self.lanes.get_mut(&tenant) else {
            return;
        };
        if !is_silent(lane) || lane.silent_since + SILENCE > now.instant {
            return;
        }
        if waiting == 0 {
            // A restart that was not needed is none that did not help.
            lane.health = Health::Well;
            lane.silent_since = now.instant;
            return;
        }
        match lane.health {
            Health::Well => lane.health = Health::Doubted,
            Health::Restarted => lane.health = Health::DoubtedAgain,
            Health::Doubted => {
                let silent = now.instant.saturating_duration_since(lane.silent_since);
                warn!(%tenant, waiting, ?silent, "messages wait and none is delivered; restarting the lane");
                lane.health = Health::Restarted;
                lane.silent_since = now.instant;
                self.act(Action::Restarted);
                self.wake_at(now.instant, tenant);
                self.on(tenant, Event::Park { until: now.instant }, now);
            }
            Health::DoubtedAgain => {
                lane.health = Health::Well;
                self.act(Action::Restarted);
                self.act(Action::GiveUp(format!(
                    "messages wait for tenant {tenant} and none is delivered, to a new consumer neither"
                )));
            }
        }
    }
}

fn is_silent(lane: &Lane) -> bool {
    lane.state == State::Running && lane.held == 0
}
