//! A shard's lanes and what they want done. Pure: it takes what happens and answers with [`Action`]s, in the order in
//! which they are to be done; it does no I/O and takes time and randomness as arguments.
//!
//! Whatever happens to a lane ends in [`Lanes::pursue`], which starts what can be started and notes when the lane is due
//! next. So no transition has to remember a timer.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use common::{broker::Verdict, id::TenantId};
use tracing::{info, warn};

use super::{
    Action, acks::Acks, admission::Admission, agenda::Agenda, filling::Apart, filling::Filling, watch::Watch,
};
use crate::{
    clock::Now,
    commit::{Commit, Outcome, Settled},
    delivery::{Delivery, Letter},
    flow::{Budget, HELD, Limits, RESIZES_MAX, Traffic},
    lane::{Event, Lane, Observed, Remedy, State, Step, Took},
    quarantine::Pace,
    retry::Policy,
};

/// A lane that settles nothing for this long gives its messages back: well before the broker's `consumer_timeout`,
/// 30 minutes, closes the channel over it.
const STUCK_MAX: Duration = Duration::from_secs(600);
/// How long such a lane then leaves its queue alone.
const PARKED: Duration = Duration::from_secs(30);

/// What lanes go by.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    /// What bounds a commit.
    pub(super) limits: Limits,
    /// What lanes may hold together.
    pub(super) budget: Budget,
    /// The largest body.
    pub(super) message_bytes_max: usize,
    /// When what was refused is tried again.
    pub(super) retry: Policy,
}

/// A shard's lanes.
#[derive(Debug)]
pub(super) struct Lanes {
    terms: Terms,
    lanes: HashMap<TenantId, Lane>,
    agenda: Agenda,
    admission: Admission,
    filling: Filling,
    quick: Apart,
    slow: Apart,
    acks: Acks,
    watch: Watch,
    /// What the messages of all lanes are like.
    traffic: Traffic,
    /// What a commit of many tenants takes; the mean follows the last ten or so.
    ordinary: Duration,
    /// Counts the channel's lives: what belongs to an earlier one means nothing any more.
    generation: u64,
    /// How many consumers may still be replaced for another prefetch before the next tick.
    resizes_left: usize,
    actions: Vec<Action>,
}

impl Lanes {
    pub(super) fn new(terms: Terms) -> Self {
        Self {
            terms,
            lanes: HashMap::new(),
            agenda: Agenda::default(),
            admission: Admission::default(),
            filling: Filling::new(),
            quick: Apart::new(Pace::Quick),
            slow: Apart::new(Pace::Slow),
            acks: Acks::default(),
            watch: Watch::default(),
            traffic: Traffic::default(),
            ordinary: Duration::ZERO,
            generation: 0,
            resizes_left: RESIZES_MAX,
            actions: Vec::new(),
        }
    }

    /// What is to be done now.
    pub(super) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Whether every lane has ended.
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// When something is due that nothing else brings about.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let pauses = [self.filling.due(now), self.quick.due(now), self.slow.due(now)];
        pauses.into_iter().flatten().chain(self.agenda.next()).min()
    }

    /// Whether messages are gathering for the next commit.
    pub(super) fn gathers(&self, now: Instant) -> bool {
        self.filling.gathers(now)
    }

    /// A lane is to run, or to run otherwise.
    pub(super) fn run(&mut self, tenant: TenantId, workers: usize, revision: i64, now: Now) {
        let lane = self.lanes.entry(tenant).or_insert_with(|| {
            self.watch.begin(tenant, now.instant);
            Lane::new(now.instant)
        });
        (lane.assignment.workers, lane.assignment.revision) = (workers, revision);
        self.on(tenant, Event::Run, now);
    }

    /// A lane is to stop.
    pub(super) fn stop(&mut self, tenant: TenantId, revision: i64, now: Now) {
        match self.lanes.get_mut(&tenant) {
            Some(lane) => {
                lane.assignment.withdrawn = revision;
                self.on(tenant, Event::Stop, now);
            }
            None => self
                .actions
                .push(Action::Tell(tenant, Observed::stopped(revision))),
        }
    }

    /// Every lane is to stop.
    pub(super) fn stop_all(&mut self, now: Now) {
        for tenant in self.tenants() {
            self.on(tenant, Event::Stop, now);
        }
    }

    /// The channel is gone, and every delivery with it; over the consumers of these tenants, if it is known.
    pub(super) fn lost(&mut self, blamed: &[TenantId], why: &str, now: Now) {
        self.generation += 1;
        self.acks = Acks::default();
        self.admission = Admission::default();
        self.filling.forget();
        self.quick.forget();
        self.slow.forget();
        // What was to be done on the channel is not to be done any more; what was to be told still is.
        self.actions.retain(|action| matches!(action, Action::Tell(..)));
        for tenant in self.tenants() {
            let Some(lane) = self.lanes.get_mut(&tenant) else {
                continue;
            };
            if blamed.contains(&tenant) && lane.consumer.closed_the_channel(why, now) {
                warn!(%tenant, why, "the queue cannot be consumed; it is tried apart from the others");
            }
            let stopping = lane.consumer.state().stopping();
            lane.forget(now.instant);
            match stopping {
                true => self.on(tenant, Event::Stop, now),
                false => self.pursue(tenant, now),
            }
        }
    }

    /// Looks at the lanes whose time has come.
    pub(super) fn due(&mut self, now: Now) {
        while let Some(tenant) = self.agenda.take(now.instant) {
            self.pursue(tenant, now);
        }
    }

    /// What is to be done now and then.
    pub(super) fn tick(&mut self, now: Now) {
        self.admission.tick();
        let kept = self.lanes.values().any(Lane::keeps_a_gap);
        self.actions.extend(self.acks.around(kept));
        let looks = self.watch.tick(&self.lanes, now.instant);
        self.actions.extend(looks.into_iter().map(Action::Look));
        self.resizes_left = RESIZES_MAX;
        for tenant in self.tenants() {
            self.look_after(tenant, now);
        }
    }

    fn look_after(&mut self, tenant: TenantId, now: Now) {
        let Some(lane) = self.lanes.get(&tenant) else {
            return;
        };
        if lane.buffer.stuck_for(now.instant) > STUCK_MAX {
            warn!(%tenant, "nothing could be settled for {} s; giving the messages back", STUCK_MAX.as_secs());
            let until = now.instant + PARKED;
            self.on(tenant, Event::Park { until }, now);
        } else if lane.is_long_unwritable()
            && lane.buffer.unsettled() > HELD
            && lane.consumer.state() == State::Running
        {
            // It consumes again at once, and holds little until it can be written.
            self.on(tenant, Event::Park { until: now.instant }, now);
        } else {
            self.resize(tenant, now);
        }
    }

    /// Asks for the consumers that there is room for. Only while there is a channel.
    pub(super) fn admit(&mut self, now: Now) {
        let room = self.terms.budget.room(self.traffic);
        while let Some(tenant) = self.admission.next(self.acks.open(), room) {
            self.on(tenant, Event::Admitted, now);
        }
    }

    /// A lane's consumer is registered.
    pub(super) fn subscribed(&mut self, tenant: TenantId, now: Now) {
        if let Some(lane) = self.lanes.get_mut(&tenant) {
            self.admission.answered(lane.consumer.prefetch());
            lane.silence.begin(now.instant);
            if lane.consumer.registered() {
                info!(%tenant, "the queue can be consumed again");
            }
        }
        self.on(tenant, Event::Subscribed, now);
    }

    /// A lane's consumer could not be registered.
    pub(super) fn unavailable(&mut self, tenant: TenantId, why: &str, now: Now) {
        if let Some(lane) = self.lanes.get(&tenant) {
            self.admission.answered(lane.consumer.prefetch());
        }
        if let Some(retry_at) = self.consumer_failed(tenant, why, now) {
            self.on(tenant, Event::Unavailable { retry_at }, now);
        }
    }

    /// A lane's consumer is gone.
    pub(super) fn ended(&mut self, tenant: TenantId, now: Now) {
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
            warn!(%tenant, why, "the queue cannot be consumed; trying on");
        }
        Some(retry_at)
    }

    /// Messages came.
    pub(super) fn delivered(&mut self, tenant: TenantId, deliveries: Vec<Delivery>, now: Now) {
        let Some(lane) = self.lanes.get_mut(&tenant) else {
            // A lane outlives its consumer, so this cannot be; they would be lost to the queue all the same.
            for delivery in deliveries {
                self.acks.came(delivery.tag);
                self.actions.push(self.acks.give_back(delivery.tag));
            }
            return;
        };
        for delivery in &deliveries {
            self.acks.came(delivery.tag);
            if !matches!(delivery.verdict, Some(Verdict::Deferred { .. })) {
                self.traffic.came(delivery.bytes());
            }
        }
        match lane.take_in(tenant, deliveries, self.terms.message_bytes_max, now) {
            true => self.pursue(tenant, now),
            false => {
                let until = lane.room.until().unwrap_or(now.instant);
                self.on(tenant, Event::Park { until }, now);
            }
        }
    }

    /// So many messages wait in a lane's queue.
    pub(super) fn looked(&mut self, tenant: TenantId, waiting: u32, now: Now) {
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
            // Only where it costs nobody a redelivery: one tenant's queue may be to blame.
            Remedy::RestartMore { .. } if self.acks.open() == 0 => {
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

    /// Fills a commit, if there is something to store. Only while none is under way.
    pub(super) fn next_commit(&mut self, now: Now) -> Option<Commit> {
        let portions = self
            .filling
            .fill(&mut self.lanes, &self.terms.limits, now.instant);
        for portion in &portions {
            self.tell(portion.tenant);
            // One that used up all it was given has more to come, and gets it at once.
            self.resize(portion.tenant, now);
        }
        (!portions.is_empty()).then_some(Commit {
            generation: self.generation,
            portions,
        })
    }

    /// Fills a commit with what a lane under suspicion has, if any of this pace has. Only while none such is under way.
    pub(super) fn next_apart(&mut self, pace: Pace, now: Now) -> Option<Commit> {
        let apart = match pace {
            Pace::Quick => &mut self.quick,
            Pace::Slow => &mut self.slow,
        };
        let portion = apart.fill(&mut self.lanes, &self.terms.limits, now.instant)?;
        self.tell(portion.tenant);
        Some(Commit {
            generation: self.generation,
            portions: vec![portion],
        })
    }

    /// What became of a commit.
    pub(super) fn settled(&mut self, outcome: Outcome, now: Now) {
        let current = outcome.generation == self.generation;
        // Of an earlier life of the channel: what is stored comes again, and is passed over then.
        let settled = if current { outcome.settled } else { Vec::new() };
        let rows = settled.iter().map(|settled| settled.stored.len()).sum();
        if rows > 0 {
            self.ordinary += (outcome.took.saturating_sub(self.ordinary)) / 8;
            self.ordinary -= (self.ordinary.saturating_sub(outcome.took)) / 8;
        }
        self.filling
            .settled(rows, settled.len(), outcome.outage.as_deref(), now);
        for settled in settled {
            self.settled_lane(settled, outcome.took, now);
        }
        self.actions.extend(self.acks.advance());
    }

    /// What became of a commit of a lane under suspicion.
    pub(super) fn settled_apart(&mut self, pace: Pace, outcome: Outcome, now: Now) {
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

    /// Gives a lane an event and does what follows from it.
    fn on(&mut self, tenant: TenantId, event: Event, now: Now) {
        let count = self.lanes.len();
        let Some(lane) = self.lanes.get_mut(&tenant) else {
            return;
        };
        match lane.consumer.on(event) {
            Step::Stay => {}
            Step::Queue => self.admission.join(tenant),
            Step::Subscribe => {
                let prefetch = lane.wants(&self.terms.budget, count);
                lane.consumer.asked(prefetch);
                self.admission.asked(prefetch);
                let wary = lane.consumer.is_wary();
                self.actions.push(Action::Subscribe {
                    tenant,
                    prefetch,
                    wary,
                });
            }
            Step::Cancel => self.actions.push(Action::Cancel(tenant)),
            Step::GiveBack => self.give_back_idle(tenant, now),
        }
        self.pursue(tenant, now);
    }

    /// Replaces a lane's consumer if it is worth having another prefetch.
    fn resize(&mut self, tenant: TenantId, now: Now) {
        let count = self.lanes.len();
        let Some(lane) = self.lanes.get(&tenant) else {
            return;
        };
        if lane.wants_another(&self.terms.budget, count) && (self.resizes_left > 0 || lane.has_become_known())
        {
            self.resizes_left = self.resizes_left.saturating_sub(1);
            self.on(tenant, Event::Resize, now);
        }
    }

    /// What a lane that ends has left over. Its consumer is gone; where it is not, its end gives back what is there then.
    fn give_back_if_draining(&mut self, tenant: TenantId, now: Now) {
        let lane = self.lanes.get(&tenant);
        if lane.is_some_and(|lane| lane.consumer.state() == State::Draining) {
            self.give_back_idle(tenant, now);
        }
    }

    /// Gives back everything of a lane that nobody works on.
    fn give_back_idle(&mut self, tenant: TenantId, now: Now) {
        let Some(lane) = self.lanes.get_mut(&tenant) else {
            return;
        };
        for tag in lane.take_idle(now.instant) {
            self.actions.push(self.acks.give_back(tag));
        }
        self.actions.extend(self.acks.advance());
    }

    /// Starts what a lane can start: to wait for a consumer, a run, letters, its end. Tells what it does, and notes when
    /// it is due next.
    fn pursue(&mut self, tenant: TenantId, now: Now) {
        let Some(lane) = self.lanes.get_mut(&tenant) else {
            return;
        };
        if lane.is_drained() {
            let stopped = lane.stopped();
            info!(%tenant, revision = stopped.revision, "lane stopped");
            self.lanes.remove(&tenant);
            self.agenda.set(tenant, None);
            self.admission.grows(tenant, false);
            self.actions.push(Action::Tell(tenant, stopped));
            return;
        }
        if lane.consumer.is_due(now.instant) && lane.consumer.on(Event::Due) == Step::Queue {
            self.admission.join(tenant);
        }
        if lane.is_ready(now.instant) {
            match lane.trust.pace() {
                Some(Pace::Quick) => self.quick.join(tenant),
                Some(Pace::Slow) => self.slow.join(tenant),
                None => self.filling.join(tenant),
            }
        }
        if lane.consumer.state().works() {
            let letters = lane.outbox.take(now.instant);
            self.actions
                .extend(letters.map(|letter| Action::Publish(tenant, letter)));
        }
        self.admission.grows(tenant, lane.grows());
        self.agenda.set(tenant, lane.due(now.instant));
        self.tell(tenant);
    }

    fn tell(&mut self, tenant: TenantId) {
        let news = self.lanes.get_mut(&tenant).and_then(Lane::news);
        self.actions
            .extend(news.map(|observed| Action::Tell(tenant, observed)));
    }

    fn tenants(&self) -> Vec<TenantId> {
        self.lanes.keys().copied().collect()
    }
}
