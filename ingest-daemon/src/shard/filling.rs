//! What goes into the next commit: the lanes that have something, the one that waits longest first. Pure.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use common::id::TenantId;
use tracing::{info, warn};

use super::{load::Load, turns::Turns};
use crate::{
    backoff::Backoff,
    clock::Now,
    commit::Portion,
    flow::{Filled, Neighbours, Policy, Stream},
    lane::{Change, Lane},
    quarantine::Pace,
};

/// PostgreSQL cannot store: it is asked again after this, growing.
const OUTAGE: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

/// Fills the commits that many tenants share.
#[derive(Debug)]
pub(super) struct Filling {
    turns: Turns,
    outage: Outage,
    /// What is known of what comes and goes.
    stream: Stream,
}

/// Fills the commits of lanes under suspicion of one pace, one tenant each.
#[derive(Debug)]
pub(super) struct Apart {
    pace: Pace,
    turns: Turns,
    outage: Outage,
}

/// Whether PostgreSQL can be reached at all.
#[derive(Debug)]
struct Outage {
    who: &'static str,
    backoff: Backoff,
}

impl Filling {
    pub(super) fn new() -> Self {
        Self {
            turns: Turns::default(),
            outage: Outage::none("PostgreSQL cannot store; holding everything"),
            stream: Stream::new(),
        }
    }

    /// A lane has something to store.
    pub(super) fn join(&mut self, tenant: TenantId) {
        self.turns.join(tenant);
    }

    /// Messages came that are to be stored.
    pub(super) fn came(&mut self, count: usize, now: Instant) {
        self.stream.came(count, now);
    }

    /// Whom a lane shares with.
    pub(super) fn neighbours(&self, load: &Load, now: Instant) -> Neighbours {
        Neighbours {
            busy_workers: load.busy_workers(),
            company: self.stream.has_company(now),
        }
    }

    /// When a pause of all lanes ends for which any of them waits.
    pub(super) fn due(&self, policy: &Policy, now: Instant) -> Option<Instant> {
        let pauses = [
            self.outage.backoff.until(),
            policy.gathers_until(&self.stream, now),
        ];
        let pauses = pauses.into_iter().flatten();
        pauses
            .filter(|until| *until > now && !self.turns.is_empty())
            .min()
    }

    /// Whether messages are gathering for the next commit.
    pub(super) fn gathers(&self, policy: &Policy, now: Instant) -> bool {
        policy.gathers_until(&self.stream, now).is_some()
    }

    /// Fills a commit. Only while none is under way.
    pub(super) fn fill(
        &mut self,
        lanes: &mut HashMap<TenantId, Lane>,
        load: &Load,
        policy: &Policy,
        now: Instant,
    ) -> Vec<Portion> {
        if self.turns.is_empty() || self.outage.backoff.holds(now) || self.gathers(policy, now) {
            return Vec::new();
        }
        let mut chosen = Vec::new();
        let mut workers = 0;
        while chosen.len() < policy.commit_tenants
            && let Some(tenant) = self.turns.next()
        {
            // It may have been held, stopped or put under suspicion since; it joins again when that is over.
            if let Some(lane) = lanes.get(&tenant)
                && lane.is_ready(now)
                && !lane.trust.is_suspect()
            {
                workers += lane.share();
                chosen.push(tenant);
            }
        }
        let neighbours = self.neighbours(load, now);
        let mut allowance = policy.allowance(chosen.len(), workers, neighbours.company);
        let mut portions = Vec::with_capacity(chosen.len());
        let mut unserved = Vec::new();
        let (mut rows, mut quiet_rows, mut room, mut left) = (0, 0, 0, !self.turns.is_empty());
        for tenant in chosen {
            let Some(lane) = lanes.get_mut(&tenant) else {
                continue;
            };
            if allowance.spent() {
                unserved.push(tenant);
                left = true;
                continue;
            }
            // Once it holds all that it may.
            let will_grow = lane.change(policy, true, neighbours) == Some(Change::Grow);
            let most = allowance.rows(lane.share()).min(lane.throttle.may(now));
            room += Policy::gather_room(lane.consumer.prefetch(), will_grow, most);
            let messages = lane.take(&mut allowance, now);
            rows += messages.len();
            // One that has just begun may turn out to have much, and one that its limit holds up waits for that.
            let waits = lane.throttle.holds(now);
            if !load.is_busy(tenant) && lane.buffer.traffic().is_known() && !waits {
                quiet_rows += messages.len();
            }
            left |= lane.buffer.is_waiting() && !waits;
            portions.push(Portion { tenant, messages });
        }
        // They were first, and stay first.
        for tenant in unserved.into_iter().rev() {
            self.turns.join_first(tenant);
        }
        if !portions.is_empty() {
            let filled = Filled {
                tenants: portions.len(),
                rows,
                quiet_rows,
                busy: load.busy_workers() > 0,
                room: room.min(allowance.rows_like(rows)),
                left,
            };
            self.stream.filled(filled, now);
        }
        portions
    }

    /// A commit of so many rows has ended, or PostgreSQL could not be reached for it.
    pub(super) fn settled(&mut self, rows: usize, outage: Option<&str>, now: Now) {
        self.outage.settled(outage, now);
        self.stream.ended(rows > 0, now.instant);
    }

    /// Nobody has anything any more.
    pub(super) fn forget(&mut self) {
        self.turns = Turns::default();
    }
}

impl Apart {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            turns: Turns::default(),
            outage: Outage::none(
                "PostgreSQL cannot be reached for tenants that are stored apart; holding them",
            ),
        }
    }

    /// A lane under suspicion has something to store.
    pub(super) fn join(&mut self, tenant: TenantId) {
        self.turns.join(tenant);
    }

    /// When the pause of all of them ends, if any waits for it.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let until = self.outage.backoff.until();
        until.filter(|until| *until > now && !self.turns.is_empty())
    }

    /// Fills a commit. Only while none is under way.
    pub(super) fn fill(
        &mut self,
        lanes: &mut HashMap<TenantId, Lane>,
        policy: &Policy,
        now: Instant,
    ) -> Option<Portion> {
        if self.outage.backoff.holds(now) {
            return None;
        }
        while let Some(tenant) = self.turns.next() {
            if let Some(lane) = lanes.get_mut(&tenant)
                && lane.is_ready(now)
                && lane.trust.pace() == Some(self.pace)
            {
                let messages = lane.take_apart(policy, now);
                return Some(Portion { tenant, messages });
            }
        }
        None
    }

    /// A commit has ended, or PostgreSQL could not be reached for it.
    pub(super) fn settled(&mut self, outage: Option<&str>, now: Now) {
        self.outage.settled(outage, now);
    }

    /// Nobody has anything any more.
    pub(super) fn forget(&mut self) {
        self.turns = Turns::default();
    }
}

impl Outage {
    const fn none(who: &'static str) -> Self {
        Self { who, backoff: OUTAGE }
    }

    fn settled(&mut self, why: Option<&str>, now: Now) {
        match why {
            Some(why) => {
                if !self.backoff.failing() {
                    warn!(why, "{}", self.who);
                }
                self.backoff.fail(now.instant, now.random);
            }
            None if self.backoff.reset() => info!("PostgreSQL stores again"),
            None => {}
        }
    }
}
