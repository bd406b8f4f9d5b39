//! What goes into the next commit: the lanes that have something, the one that waits longest first. Pure.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use common::id::TenantId;
use tracing::{info, warn};

use crate::{
    backoff::Backoff,
    clock::Now,
    commit::Portion,
    flow::{COMPANY, GATHERING, Limits, thin},
    lane::Lane,
    quarantine::Pace,
};

/// PostgreSQL cannot store: it is asked again after this, growing.
const OUTAGE: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

/// Fills the commits that many tenants share.
#[derive(Debug)]
pub(super) struct Filling {
    turns: Turns,
    outage: Outage,
    /// Until when quiet tenants beside a full queue are counted on.
    company_until: Option<Instant>,
    /// Until when no commit is filled, so that the next one is larger.
    gathering_until: Option<Instant>,
}

/// Fills the commits of lanes under suspicion of one pace, one tenant each.
#[derive(Debug)]
pub(super) struct Apart {
    pace: Pace,
    turns: Turns,
    outage: Outage,
}

/// Lanes that wait for a commit, in the order in which they came.
#[derive(Debug, Default)]
struct Turns {
    order: VecDeque<TenantId>,
    within: HashSet<TenantId>,
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
            company_until: None,
            gathering_until: None,
        }
    }

    /// A lane has something to store.
    pub(super) fn join(&mut self, tenant: TenantId) {
        self.turns.join(tenant);
    }

    /// Whether messages are gathering for the next commit.
    pub(super) fn gathers(&self, now: Instant) -> bool {
        self.gathering_until.is_some_and(|until| now < until)
    }

    /// When a pause of all lanes ends for which any of them waits.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let pauses = [self.outage.backoff.until(), self.gathering_until];
        let pauses = pauses.into_iter().flatten();
        pauses
            .filter(|until| *until > now && !self.turns.order.is_empty())
            .min()
    }

    /// Fills a commit. Only while none is under way.
    pub(super) fn fill(
        &mut self,
        lanes: &mut HashMap<TenantId, Lane>,
        limits: &Limits,
        now: Instant,
    ) -> Vec<Portion> {
        if self.outage.backoff.holds(now) || self.gathers(now) {
            return Vec::new();
        }
        let mut chosen = Vec::new();
        let mut workers = 0;
        while chosen.len() < limits.tenants
            && let Some(tenant) = self.turns.next()
        {
            // It may have been held, stopped or put under suspicion since; it joins again when that is over.
            if let Some(lane) = lanes.get(&tenant)
                && lane.is_ready(now)
                && !lane.trust.is_suspect()
            {
                workers += lane.assignment.workers;
                chosen.push(tenant);
            }
        }
        let company = self.company_until.is_some_and(|until| now < until);
        let mut allowance = limits.allowance(chosen.len(), workers, company);
        let mut portions = Vec::with_capacity(chosen.len());
        let mut left = Vec::new();
        let (mut quiet, mut full) = (false, false);
        for tenant in chosen {
            let Some(lane) = lanes.get_mut(&tenant) else {
                continue;
            };
            if allowance.spent() {
                left.push(tenant);
                continue;
            }
            let prefetch = lane.consumer.prefetch();
            let messages = lane
                .buffer
                .take(lane.assignment.workers, prefetch, &mut allowance);
            match lane.buffer.is_waiting() {
                true => full = true,
                false => quiet = true,
            }
            portions.push(Portion { tenant, messages });
        }
        if quiet && full {
            self.company_until = Some(now + COMPANY);
        }
        // They were first, and stay first.
        for tenant in left.into_iter().rev() {
            self.turns.join_first(tenant);
        }
        portions
    }

    /// A commit of so many rows of so many tenants has ended, or PostgreSQL could not be reached for it.
    pub(super) fn settled(&mut self, rows: usize, tenants: usize, outage: Option<&str>, now: Now) {
        self.outage.settled(outage, now);
        if thin(rows, tenants) {
            self.gathering_until = Some(now.instant + GATHERING);
        }
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
        until.filter(|until| *until > now && !self.turns.order.is_empty())
    }

    /// Fills a commit. Only while none is under way.
    pub(super) fn fill(
        &mut self,
        lanes: &mut HashMap<TenantId, Lane>,
        limits: &Limits,
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
                let messages = lane
                    .buffer
                    .take_apart(lane.trust.rows().min(limits.run_rows), limits.bytes);
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

impl Turns {
    fn join(&mut self, tenant: TenantId) {
        if self.within.insert(tenant) {
            self.order.push_back(tenant);
        }
    }

    fn join_first(&mut self, tenant: TenantId) {
        if self.within.insert(tenant) {
            self.order.push_front(tenant);
        }
    }

    fn next(&mut self) -> Option<TenantId> {
        let tenant = self.order.pop_front()?;
        self.within.remove(&tenant);
        Some(tenant)
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
