//! A shard's lanes and what they want done. Pure: it takes what happens and answers with [`Action`]s, in the order in
//! which they are to be done; it does no I/O and takes time and randomness as arguments.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant, SystemTime},
};

use common::id::TenantId;
use tracing::info;

use super::{admission::Line, consuming::RESIZES_MAX};
use crate::{
    backoff::Backoff,
    commit::Limits,
    delivery::Letter,
    lane::{Budget, Event, Lane, Observed, PUBLISHING_MAX, Standing, State, Step, Traffic},
    retry::Policy,
    settle::{Ack, Watermark},
};

/// PostgreSQL cannot store: it is asked again after this, growing.
const OUTAGE: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
/// Something to be done.
#[derive(Debug)]
pub(super) enum Action {
    /// Ask for a consumer with this prefetch.
    Subscribe(TenantId, u16),
    /// Ask for a consumer to be cancelled.
    Cancel(TenantId),
    /// Acknowledge.
    Ack(Ack),
    /// Give a delivery back.
    GiveBack(u64),
    /// Publish what failed.
    Publish(TenantId, Box<Letter>),
    /// Tell what a lane does.
    Tell(TenantId, Observed),
    /// Look how many messages wait in a lane's queue.
    Look(TenantId),
    /// Count that a lane was restarted.
    Restarted,
    /// Give the channel up.
    GiveUp(String),
}

/// A moment, and the luck that comes with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// For pauses.
    pub(super) instant: Instant,
    /// For what people read.
    pub(super) time: SystemTime,
    /// 0..1: spreads what would otherwise happen together.
    pub(super) random: f64,
}

/// A shard's lanes.
#[derive(Debug)]
pub(super) struct Lanes {
    pub(super) limits: Limits,
    pub(super) budget: Budget,
    pub(super) message_bytes_max: usize,
    pub(super) retry: Policy,
    pub(super) lanes: HashMap<TenantId, Lane>,
    /// Lanes with something to store, the one that waits longest first.
    pub(super) ready: VecDeque<TenantId>,
    /// When to look at a lane again. At most one entry per pause that a lane is in.
    pub(super) timers: BTreeSet<(Instant, TenantId)>,
    /// Lanes whose time has come to ask for a consumer, and which wait for room.
    pub(super) line: Line,
    /// What the messages of all lanes are like.
    pub(super) traffic: Traffic,
    /// When to see whether a lane gets what its queue has: an entry a lane, and what is left of lanes that ended.
    pub(super) looks: BTreeSet<(Instant, TenantId)>,
    pub(super) watermark: Watermark,
    /// Counts the channel's lives: what belongs to an earlier one means nothing any more.
    pub(super) generation: u64,
    pub(super) outage: Backoff,
    /// Until when quiet tenants beside a full queue are counted on.
    pub(super) company_until: Option<Instant>,
    /// Until when no commit is filled, so that the next one is larger.
    pub(super) gathering_until: Option<Instant>,
    /// How many consumers may still be replaced for another prefetch before the next tick.
    pub(super) resizes_left: usize,
    actions: Vec<Action>,
}

impl Lanes {
    pub(super) fn new(limits: Limits, budget: Budget, message_bytes_max: usize, retry: Policy) -> Self {
        Self {
            limits,
            budget,
            message_bytes_max,
            retry,
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            timers: BTreeSet::new(),
            line: Line::default(),
            traffic: Traffic::default(),
            looks: BTreeSet::new(),
            watermark: Watermark::default(),
            generation: 0,
            outage: OUTAGE,
            company_until: None,
            gathering_until: None,
            resizes_left: RESIZES_MAX,
            actions: Vec::new(),
        }
    }

    /// What is to be done now.
    pub(super) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    pub(super) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Whether every lane has ended.
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// When something is due that nothing else brings about.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let pauses = [self.outage.until(), self.gathering_until].into_iter().flatten();
        let pauses = pauses.filter(|until| *until > now && !self.ready.is_empty());
        timer.into_iter().chain(pauses).min()
    }

    /// A lane is to run, or to run otherwise.
    pub(super) fn run(&mut self, tenant: TenantId, workers: usize, revision: i64, now: Now) {
        let new = !self.lanes.contains_key(&tenant);
        let lane = self.lanes.entry(tenant).or_insert_with(|| Lane::new(now.instant));
        (lane.workers, lane.revision) = (workers, revision);
        if new {
            self.look_later(tenant, now.instant);
        }
        self.timers.insert((now.instant, tenant));
        self.on(tenant, Event::Run, now);
    }

    /// A lane is to stop.
    pub(super) fn stop(&mut self, tenant: TenantId, revision: i64, now: Now) {
        match self.lanes.get_mut(&tenant) {
            Some(lane) => {
                lane.withdrawn = revision;
                self.on(tenant, Event::Stop, now);
            }
            None => self.act(Action::Tell(tenant, stopped(revision))),
        }
    }

    /// Every lane is to stop.
    pub(super) fn stop_all(&mut self, now: Now) {
        for tenant in self.lanes.keys().copied().collect::<Vec<_>>() {
            self.on(tenant, Event::Stop, now);
        }
    }

    /// The channel is gone, and every delivery with it.
    pub(super) fn lost(&mut self, now: Now) {
        self.generation += 1;
        self.watermark = Watermark::default();
        self.line = Line::default();
        self.ready.clear();
        self.timers.clear();
        // What was to be done on the channel is not to be done any more; what was to be told still is.
        self.actions.retain(|action| matches!(action, Action::Tell(..)));
        for tenant in self.lanes.keys().copied().collect::<Vec<_>>() {
            let Some(lane) = self.lanes.get_mut(&tenant) else {
                continue;
            };
            let stopping = lane.state.stopping();
            lane.forget(now.instant);
            self.timers.insert((now.instant, tenant));
            if stopping {
                self.on(tenant, Event::Stop, now);
            } else {
                self.tell(tenant);
            }
        }
    }

    /// Looks at the lanes whose time has come. Only while there is a channel.
    pub(super) fn due(&mut self, now: Now) {
        while self.timers.first().is_some_and(|(at, _)| *at <= now.instant) {
            let Some((_, tenant)) = self.timers.pop_first() else {
                break;
            };
            match self.lanes.get(&tenant).map(|lane| lane.state) {
                Some(State::Waiting { until }) if until <= now.instant => self.line.join(until, tenant),
                _ => self.look_at(tenant, now),
            }
        }
    }

    /// Gives a lane an event and does what follows from it.
    pub(super) fn on(&mut self, tenant: TenantId, event: Event, now: Now) {
        let count = self.lanes.len();
        let Some(lane) = self.lanes.get_mut(&tenant) else {
            return;
        };
        let (state, step) = lane.state.on(event);
        lane.enter(state);
        match step {
            Step::Stay => {}
            Step::Subscribe => {
                lane.traffic.expect(self.traffic);
                lane.prefetch = self.budget.prefetch(count, lane.traffic, lane.long_held());
                self.line.asked(lane.prefetch);
                self.actions.push(Action::Subscribe(tenant, lane.prefetch));
            }
            Step::Cancel => self.actions.push(Action::Cancel(tenant)),
            Step::GiveBack => self.give_back_idle(tenant, now),
        }
        self.look_at(tenant, now);
    }

    /// Gives back everything of a lane that nobody works on.
    pub(super) fn give_back_idle(&mut self, tenant: TenantId, now: Now) {
        let Some(lane) = self.lanes.get_mut(&tenant) else {
            return;
        };
        let tags = lane.take_idle();
        lane.settle(tags.len(), now.instant);
        for tag in tags {
            self.give_back(tag);
        }
        self.advance();
    }

    pub(super) fn give_back(&mut self, tag: u64) {
        self.watermark.give_back(tag);
        self.act(Action::GiveBack(tag));
    }

    pub(super) fn wake_at(&mut self, at: Instant, tenant: TenantId) {
        self.timers.insert((at, tenant));
    }

    /// Starts what a lane can start: a run, letters, its end. And tells what it does.
    pub(super) fn look_at(&mut self, tenant: TenantId, now: Now) {
        let Some(lane) = self.lanes.get_mut(&tenant) else {
            return;
        };
        if lane.drained() {
            let revision = lane.withdrawn.max(lane.revision);
            self.lanes.remove(&tenant);
            self.act(Action::Tell(tenant, stopped(revision)));
            info!(%tenant, revision, "lane stopped");
            return;
        }
        if !lane.queued && lane.ready(now.instant) {
            lane.queued = true;
            self.ready.push_back(tenant);
        }
        if lane.state.works() && !lane.unpublished.holds(now.instant) {
            let room = PUBLISHING_MAX
                .saturating_sub(lane.publishing)
                .min(lane.letters.len());
            for letter in lane.letters.drain(..room) {
                lane.publishing += 1;
                self.actions.push(Action::Publish(tenant, letter));
            }
        }
        self.tell(tenant);
    }

    pub(super) fn tell(&mut self, tenant: TenantId) {
        let Some(lane) = self.lanes.get_mut(&tenant) else {
            return;
        };
        let observed = lane.observed();
        if lane.told.replace(observed) != Some(observed) {
            self.actions.push(Action::Tell(tenant, observed));
        }
    }
}

fn stopped(revision: i64) -> Observed {
    Observed {
        revision,
        state: Standing::Stopped,
        workers: 0,
        busy: 0,
        held: 0,
    }
}
