//! A shard's lanes and what they want done. Pure: it takes what happens and answers with [`Action`]s, in the order in
//! which they are to be done; it does no I/O and takes time and randomness as arguments.
//!
//! Whatever happens to a lane ends in [`Lanes::pursue`], which starts what can be started and notes when the lane is due
//! next. So no transition has to remember a timer.

mod consumers;
mod messages;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use common::id::TenantId;
use tracing::{info, warn};

use super::{
    Action, acks::Acks, admission::Admission, agenda::Agenda, filling::Apart, filling::Filling, load::Load,
    watch::Watch,
};
use crate::{
    clock::Now,
    flow::{self, RESIZES_MAX, Traffic},
    lane::{Event, Lane, Observed, State, Step, Wanted},
    quarantine::Pace,
    retry,
};

/// What lanes go by.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    /// How much of everything.
    pub(super) flow: flow::Policy,
    /// The largest body.
    pub(super) message_bytes_max: usize,
    /// When what was refused is tried again.
    pub(super) retry: retry::Policy,
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
    /// Who has something.
    load: Load,
    /// What the messages of all lanes are like.
    traffic: Traffic,
    /// What a commit of many tenants takes; the mean follows the last ten or so.
    ordinary: Duration,
    /// Counts the channel's lives: what belongs to an earlier one means nothing any more.
    generation: u64,
    /// How many consumers may still be replaced for another prefetch before the next tick.
    resizes_left: usize,
    /// When anything last came on the channel.
    heard_at: Option<Instant>,
    ticked_at: Option<Instant>,
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
            load: Load::default(),
            traffic: Traffic::default(),
            ordinary: Duration::ZERO,
            generation: 0,
            resizes_left: RESIZES_MAX,
            heard_at: None,
            ticked_at: None,
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
        let filling = self.filling.due(&self.terms.flow, now);
        let pauses = [filling, self.quick.due(now), self.slow.due(now)];
        pauses.into_iter().flatten().chain(self.agenda.next()).min()
    }

    /// Whether messages are gathering for the next commit.
    pub(super) fn gathers(&self, now: Instant) -> bool {
        self.filling.gathers(&self.terms.flow, now)
    }

    /// A lane is to run, or to run otherwise: with other workers, or no faster than so. Nothing but the next commit changes
    /// by that, and in time what its consumer may hold.
    pub(super) fn run(&mut self, tenant: TenantId, wanted: Wanted, now: Now) {
        let lane = self.lanes.entry(tenant).or_insert_with(|| {
            self.watch.begin(tenant, now.instant);
            Lane::new(Traffic::told(wanted.message_bytes), now.instant)
        });
        (lane.assignment.workers, lane.assignment.revision) = (wanted.workers as usize, wanted.revision);
        lane.throttle.set(wanted.store_per_second, now.instant);
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
        self.load = Load::default();
        self.heard_at = None;
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
        self.load.tick(now.instant);
        let loaded = self.load.lanes();
        let mut lanes = loaded.iter().filter_map(|tenant| self.lanes.get(tenant));
        let kept = lanes.any(Lane::keeps_a_gap);
        self.actions.extend(self.acks.around(kept));
        let looks = self.watch.tick(&self.lanes, now.instant);
        self.actions.extend(looks.into_iter().map(Action::Look));
        self.resizes_left = RESIZES_MAX;
        // While nothing comes nobody needs another prefetch, and a broker that is silent is asked for nothing that the
        // channel would be given up over.
        let came = self.heard_at.is_some() && self.heard_at >= self.ticked_at;
        self.ticked_at = Some(now.instant);
        for tenant in loaded {
            self.look_after(tenant, came, now);
        }
        if came {
            self.calm(now);
        }
    }

    /// Gives a lane an event and does what follows from it.
    fn on(&mut self, tenant: TenantId, event: Event, now: Now) {
        let (busy, neighbours) = (
            self.load.is_busy(tenant),
            self.filling.neighbours(&self.load, now.instant),
        );
        let Some(lane) = self.lanes.get_mut(&tenant) else {
            return;
        };
        match lane.consumer.on(event) {
            Step::Stay => {}
            Step::Queue => self.admission.join(tenant),
            Step::Subscribe => {
                let prefetch = lane.wants(&self.terms.flow, busy, neighbours);
                lane.consumer.asked(prefetch);
                self.admission.asked(prefetch);
                let trial = lane.consumer.trial();
                self.actions.push(Action::Subscribe {
                    tenant,
                    prefetch,
                    trial,
                });
            }
            Step::Cancel => self.actions.push(Action::Cancel(tenant)),
            // With what is left of the commit: a quorum queue that gets back many messages may lose an acknowledgement
            // that comes after them when the channel ends. (RabbitMQ 3.10 keeps it until it has worked off the others.)
            Step::GiveBack if lane.consumer.state() == State::Draining && lane.buffer.in_commit() => {}
            Step::GiveBack => self.give_back_idle(tenant, now),
        }
        self.pursue(tenant, now);
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
            self.load.gone(tenant);
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
        self.load.holds(tenant, lane.buffer.unsettled() > 0);
        self.load.is_slowed(tenant, lane.is_slowed(now.instant));
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
