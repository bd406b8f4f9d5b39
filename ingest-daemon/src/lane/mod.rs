//! One tenant's lane inside one shard. Pure.
//!
//! It is a [`Consumer`], a [`Buffer`] of what that brought, an [`Outbox`] of what failed, and what is thought of its
//! table ([`Trust`]). Each owns its state, says when something of it is due, and what is wrong with it.
//!
//! Where its tenant has a limit, a [`Throttle`] says when it may be stored, and how much of it.
//!
//! A worker is a place for one run in a commit, not a task: `workers` says how many runs of the tenant may be in
//! flight at once. Changing it changes the next commit; nothing is reconnected and nothing redelivered.

mod board;
mod buffer;
mod consumer;
mod intake;
mod outbox;
mod settling;
mod silence;
mod trouble;

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

pub(crate) use self::{
    board::{Board, Observed, Standing},
    buffer::Buffer,
    consumer::{Consumer, Event, State, Step},
    outbox::Outbox,
    settling::Took,
    silence::{Remedy, Silence},
    trouble::{Kind, Problem, Trouble},
};
use crate::{
    backoff::Backoff,
    delivery::Message,
    flow::{
        Allowance, Asking, IDLE_AFTER, Neighbours, Policy, QUIET_MESSAGES, Throttle, Traffic,
        UNSEEN_MESSAGES, worth_changing,
    },
    quarantine::Trust,
};

/// Another daemon's commit takes milliseconds.
const COUNTER: Backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(500));
/// About two seconds of a table that cannot be written. What is unsettled is a gap in the acknowledgements, which costs
/// the neighbours, so waiting messages had better wait in the queue then.
const LONG_UNWRITABLE: u32 = 5;

/// A lane.
#[derive(Debug)]
pub(crate) struct Lane {
    /// What it is to do.
    pub(crate) assignment: Assignment,
    /// Where its messages come from.
    pub(crate) consumer: Consumer,
    /// What came.
    pub(crate) buffer: Buffer,
    /// What failed.
    pub(crate) outbox: Outbox,
    /// Whether anything comes.
    pub(crate) silence: Silence,
    /// Whether it is stored with its neighbours or apart.
    pub(crate) trust: Trust,
    /// Its position counter was locked by another daemon.
    pub(crate) counter: Backoff,
    /// How fast it may be stored.
    pub(crate) throttle: Throttle,
    /// There was no room for what came.
    pub(crate) room: Trouble,
    /// What was last told of it.
    told: Option<Observed>,
}

/// How a consumer is worth changing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// By one that may hold more.
    Grow,
    /// By one that may hold less.
    Shrink,
}

/// What is asked of a lane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Wanted {
    /// How many workers it is to have.
    pub(crate) workers: u32,
    /// The assignment's revision.
    pub(crate) revision: i64,
    /// How many messages a second it may store, if it is limited.
    pub(crate) store_per_second: Option<f64>,
    /// How many bytes one of its messages took, if anybody has seen enough of them.
    pub(crate) message_bytes: Option<NonZeroU32>,
}

/// What a lane is to do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Assignment {
    /// How many runs of it may be in flight.
    pub(crate) workers: usize,
    /// Which assignment says so.
    pub(crate) revision: i64,
    /// The revision of its last withdrawal.
    pub(crate) withdrawn: i64,
}

impl Lane {
    /// A lane of a tenant whose messages have been like this.
    pub(crate) fn new(traffic: Traffic, now: Instant) -> Self {
        Self {
            assignment: Assignment::default(),
            consumer: Consumer::new(now),
            buffer: Buffer::new(traffic, now),
            outbox: Outbox::default(),
            silence: Silence::new(now),
            trust: Trust::default(),
            counter: COUNTER,
            throttle: Throttle::default(),
            room: intake::room(),
            told: None,
        }
    }

    /// Whether a worker may take a run.
    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        self.consumer.state().works()
            && !self.buffer.in_commit()
            && self.buffer.is_waiting()
            && !self.counter.holds(now)
            && !self.trust.holds(now)
            && !self.throttle.holds(now)
    }

    /// Whether it holds messages that its limit keeps from being stored.
    pub(crate) fn is_slowed(&self, now: Instant) -> bool {
        self.buffer.is_waiting() && self.throttle.holds(now)
    }

    /// How many workers it counts as where lanes share something: one with a limit takes what that allows.
    pub(crate) fn share(&self) -> usize {
        self.throttle.workers(self.assignment.workers)
    }

    /// Takes what it may put into a commit.
    pub(crate) fn take(&mut self, allowance: &mut Allowance, now: Instant) -> Vec<Message> {
        let (share, most) = (self.share(), self.throttle.may(now));
        let messages = self.buffer.take(share, most, allowance);
        self.throttle.took(messages.len(), now);
        messages
    }

    /// Takes what it may put into a commit of its own.
    pub(crate) fn take_apart(&mut self, policy: &Policy, now: Instant) -> Vec<Message> {
        let rows = self.trust.rows().min(policy.run_rows).min(self.throttle.may(now));
        let messages = self.buffer.take_apart(rows, policy.commit_bytes);
        self.throttle.took(messages.len(), now);
        messages
    }

    /// When something of it is due that nothing else brings about. Derived from its state, so that nothing has to
    /// remember to set it. What was due before `now` has been seen to by whoever asks.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        let storing = [self.counter.until(), self.trust.until(), self.throttle.until()];
        let storing = storing.into_iter().flatten().max();
        [
            self.consumer.due(),
            storing.filter(|_| self.buffer.is_waiting()),
            self.outbox.due(),
        ]
        .into_iter()
        .flatten()
        .filter(|due| *due > now)
        .min()
    }

    /// Whether nothing comes although something could.
    pub(crate) fn is_silent(&self) -> bool {
        self.consumer.state() == State::Running && self.buffer.unsettled() == 0
    }

    /// Whether its table could not be written for long.
    pub(crate) fn is_long_unwritable(&self) -> bool {
        self.trust.failures() >= LONG_UNWRITABLE
    }

    /// Whether something of it stays unsettled for another reason than that its turn has not come.
    pub(crate) fn keeps_a_gap(&self) -> bool {
        self.trust.is_suspect()
            || self.outbox.is_publishing()
            || self.outbox.trouble().is_there()
            || self.counter.failing()
            || self.room.is_there()
            || self.throttle.until().is_some() && self.buffer.is_waiting()
    }

    /// Whether it has as much as a lane that has little may hold. Of one that may hold less so far nothing is known, and
    /// one that is limited to little has little.
    pub(crate) fn has_much(&self, policy: &Policy, neighbours: Neighbours) -> bool {
        let little = self.wants(policy, false, neighbours).into();
        self.buffer.traffic().is_known()
            && !self.throttle.is_little()
            && self.buffer.unsettled() >= QUIET_MESSAGES.min(little)
    }

    /// Whether it holds more than it may store within so long. Of such a lane everything goes back, and comes again as
    /// it may be stored: a limit was set that is far below what it had.
    pub(crate) fn holds_for(&self, long: Duration) -> bool {
        self.throttle.takes(self.buffer.unsettled()) > long
    }

    /// The prefetch that it should have beside these neighbours, if it has had much lately or not.
    pub(crate) fn wants(&self, policy: &Policy, busy: bool, neighbours: Neighbours) -> u16 {
        let asking = Asking {
            traffic: self.buffer.traffic(),
            workers: self.share(),
            throttle: self.throttle,
            busy,
            held: self.is_long_unwritable(),
        };
        policy.prefetch(asking, neighbours)
    }

    /// Whether its consumer holds as much as it may. Then nothing is on its way.
    pub(crate) fn is_full(&self) -> bool {
        self.buffer.of_consumer() >= self.consumer.prefetch().into()
    }

    /// How its consumer is worth changing, if it is.
    pub(crate) fn change(&self, policy: &Policy, busy: bool, neighbours: Neighbours) -> Option<Change> {
        let (has, wants) = (self.consumer.prefetch(), self.wants(policy, busy, neighbours));
        worth_changing(has, wants).then_some(if wants > has { Change::Grow } else { Change::Shrink })
    }

    /// Whether its consumer is to be replaced by one with another prefetch, and now. A quorum queue gives back what is on
    /// its way to a consumer that is cancelled, and delivers it again as redelivered: so one that holds as much as it may
    /// is replaced, which is when more is of use; one that may hold too much also while nothing comes, or where there is
    /// no room for what comes, since that goes back in any case.
    pub(crate) fn wants_another(
        &self,
        policy: &Policy,
        busy: bool,
        neighbours: Neighbours,
        now: Instant,
    ) -> bool {
        self.consumer.state() == State::Running
            && match self.change(policy, busy, neighbours) {
                None => false,
                Some(Change::Grow) => self.is_full(),
                Some(Change::Shrink) => {
                    self.is_full() || self.buffer.is_idle(IDLE_AFTER, now) || self.room.is_there()
                }
            }
    }

    /// Its consumer is registered. Answers whether a problem has ended.
    pub(crate) fn registered(&mut self, now: Instant) -> bool {
        self.silence.begin(now);
        self.buffer.begin();
        self.consumer.registered()
    }

    /// Whether its messages' size is known, and its consumer was asked for when it was not.
    pub(crate) fn has_become_known(&self) -> bool {
        usize::from(self.consumer.prefetch()) <= UNSEEN_MESSAGES && self.buffer.traffic().is_known()
    }

    /// Whether it has messages, and will hold more of them once their size is known.
    pub(crate) fn grows(&self) -> bool {
        self.buffer.unsettled() > 0 && !self.buffer.traffic().is_known()
    }

    /// Takes everything that it holds and nobody works on, as delivery tags. They count as settled.
    pub(crate) fn take_idle(&mut self, now: Instant) -> Vec<u64> {
        let tags: Vec<_> = self.buffer.take_idle().chain(self.outbox.take_idle()).collect();
        self.buffer.settle(tags.len(), now);
        tags
    }

    /// Forgets every delivery: the channel that they came on is gone, and the broker delivers them again.
    pub(crate) fn forget(&mut self, now: Instant) {
        self.buffer.forget();
        self.outbox.forget();
        self.consumer.forget(now);
    }

    /// Whether nothing of it is in flight any more.
    pub(crate) fn is_drained(&self) -> bool {
        self.consumer.state() == State::Draining && !self.buffer.in_commit() && !self.outbox.is_publishing()
    }

    /// What it does, if that is not what was told last.
    pub(crate) fn news(&mut self) -> Option<Observed> {
        let observed = self.observed();
        (self.told.as_ref() != Some(&observed)).then(|| {
            self.told = Some(observed.clone());
            observed
        })
    }

    /// Its last word.
    pub(crate) fn stopped(&self) -> Observed {
        Observed::stopped(self.assignment.withdrawn.max(self.assignment.revision))
    }

    fn observed(&self) -> Observed {
        let state = match self.consumer.is_there() {
            true => Standing::Running,
            false => Standing::Starting,
        };
        Observed {
            revision: self.assignment.revision,
            state,
            workers: count(self.assignment.workers),
            busy: count(self.buffer.busy()),
            held: count(self.buffer.unsettled()),
            oldest: self.buffer.oldest(),
            problem: self.problem().cloned(),
            message_bytes: self.buffer.traffic().stated(),
        }
    }

    /// What is wrong: of several things what keeps most from being stored.
    fn problem(&self) -> Option<&Problem> {
        let consumer = self.consumer.trouble().problem();
        consumer
            .or_else(|| self.trust.problem())
            .or_else(|| self.silence.trouble().problem())
            .or_else(|| self.room.problem())
            .or_else(|| self.outbox.trouble().problem())
    }
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
