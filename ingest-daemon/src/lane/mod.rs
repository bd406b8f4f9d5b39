//! One tenant's lane inside one shard: its consumer's state, what was delivered and is not settled, and its workers.
//! Pure.
//!
//! A worker is a place for one run in a commit, not a task: `workers` says how many runs of the tenant may be in
//! flight at once. Changing it changes the next commit; nothing is reconnected and nothing redelivered.

mod board;
mod prefetch;
mod state;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

pub(crate) use self::{
    board::{Board, Observed, Standing},
    prefetch::{Budget, HELD, LIGHT, Traffic, worth_changing},
    state::{Event, State, Step},
};
use crate::{
    backoff::Backoff,
    commit::Allowance,
    delivery::{Letter, Message},
};

/// Another daemon's commit takes milliseconds.
const BUSY: Backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(500));
/// A table is locked, or being created or deleted: seconds.
const UNWRITABLE: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// About two seconds of that. A held message is a gap in the acknowledgements, which costs its neighbours.
const LONG_HELD_FAILURES: u32 = 5;
/// A queue is missing: being declared again, or about to be withdrawn.
const UNAVAILABLE: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// There was no memory for what came: what is held is stored within seconds.
const CROWDED: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));
/// A letter could not be published.
const UNPUBLISHED: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// Letters of one lane being published at once.
pub(crate) const PUBLISHING_MAX: usize = 8;

/// A lane.
#[derive(Debug)]
pub(crate) struct Lane {
    /// How many runs of it may be in flight.
    pub(crate) workers: usize,
    /// The revision of its assignment.
    pub(crate) revision: i64,
    /// The revision of its last withdrawal.
    pub(crate) withdrawn: i64,
    /// Where it stands with its consumer.
    pub(crate) state: State,
    /// Whether it has a consumer, or had one a moment ago and is replacing it.
    consuming: bool,
    /// What its consumer was asked for with.
    pub(crate) prefetch: u16,
    /// What its messages are like.
    pub(crate) traffic: Traffic,
    /// Messages that no worker has taken yet.
    buffer: VecDeque<Message>,
    /// Messages that failed and are not published yet.
    pub(crate) letters: VecDeque<Box<Letter>>,
    /// How many more of those are being published.
    pub(crate) publishing: usize,
    /// How many messages are in the commit under way.
    pub(crate) in_commit: usize,
    /// How many workers these are.
    pub(crate) busy: usize,
    /// How many deliveries are not settled, wherever they are.
    pub(crate) held: usize,
    /// Since when nothing has been settled although something is held.
    pub(crate) stuck_since: Instant,
    /// Since when nothing has come from its consumer.
    pub(crate) silent_since: Instant,
    /// What is known of that silence.
    pub(crate) health: Health,
    /// When to look at that next.
    pub(crate) look_at: Instant,
    /// Its counter is locked.
    pub(crate) locked: Backoff,
    /// Its table cannot be written.
    pub(crate) unwritable: Backoff,
    /// Its queue cannot be consumed.
    pub(crate) unavailable: Backoff,
    /// Its letters cannot be published.
    pub(crate) unpublished: Backoff,
    /// There was no memory for its messages.
    pub(crate) crowded: Backoff,
    /// Those there was none for, as delivery tags: given back once the consumer is gone.
    pub(crate) deferred: Vec<u64>,
    /// Its last run was trouble, so its next is a commit of its own.
    pub(crate) suspect: bool,
    /// It stands in the queue of lanes that are ready.
    pub(crate) queued: bool,
    /// What was last told of it.
    pub(crate) told: Option<Observed>,
}

/// What is known of a lane that has nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// Nothing is wrong.
    Well,
    /// Its queue was not empty.
    Doubted,
    /// It was restarted, and nothing has come since.
    Restarted,
    /// The same, and its queue was not empty.
    DoubtedAgain,
}

impl Lane {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            workers: 0,
            revision: 0,
            withdrawn: 0,
            state: State::Waiting { until: now },
            consuming: false,
            prefetch: 0,
            traffic: Traffic::default(),
            buffer: VecDeque::new(),
            letters: VecDeque::new(),
            publishing: 0,
            in_commit: 0,
            busy: 0,
            held: 0,
            stuck_since: now,
            silent_since: now,
            health: Health::Well,
            look_at: now,
            locked: BUSY,
            unwritable: UNWRITABLE,
            unavailable: UNAVAILABLE,
            unpublished: UNPUBLISHED,
            crowded: CROWDED,
            deferred: Vec::new(),
            suspect: false,
            queued: false,
            told: None,
        }
    }

    /// It stands there now.
    pub(crate) fn enter(&mut self, state: State) {
        self.state = state;
        match state {
            State::Running => self.consuming = true,
            State::Waiting { .. } | State::Draining => self.consuming = false,
            State::Subscribing { .. } | State::Cancelling(_) => {}
        }
    }

    /// A message came.
    pub(crate) fn push(&mut self, message: Message) {
        self.buffer.push_back(message);
    }

    /// Messages that were in a commit are to be tried again, before everything that came after them.
    pub(crate) fn put_back(&mut self, messages: Vec<Message>) {
        for message in messages.into_iter().rev() {
            self.buffer.push_front(message);
        }
    }

    /// Whether a worker may take a run.
    pub(crate) fn ready(&self, now: Instant) -> bool {
        self.state.works()
            && self.in_commit == 0
            && !self.locked.holds(now)
            && !self.unwritable.holds(now)
            && self.is_waiting()
    }

    /// Takes what its workers may put into a commit: what has waited longest.
    pub(crate) fn take(&mut self, allowance: &mut Allowance) -> Vec<Message> {
        let most = allowance.rows(self.workers);
        let rows = most.min(self.buffer.len());
        let mut bytes_left = true;
        let fits = self.buffer.iter().take(rows).take_while(|message| {
            let fits = bytes_left;
            bytes_left = bytes_left && allowance.take(message.payload.len());
            fits
        });
        let rows = fits.count();
        // All of them with their room: thousands of lanes would keep it for nothing.
        let messages: Vec<_> = match rows == self.buffer.len() {
            true => std::mem::take(&mut self.buffer).into(),
            false => self.buffer.drain(..rows).collect(),
        };
        if !self.suspect {
            self.traffic
                .took(messages.len(), most, self.buffer.len(), self.prefetch);
        }
        self.in_commit = messages.len();
        self.busy = allowance.runs(self.workers, messages.len());
        messages
    }

    /// Whether messages wait for a worker.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Whether its table could not be written for long enough that waiting messages had better wait in the queue.
    pub(crate) fn long_held(&self) -> bool {
        self.unwritable.failures() >= LONG_HELD_FAILURES
    }

    /// Whether something it holds is not settled for another reason than that its turn has not come.
    pub(crate) fn is_held(&self) -> bool {
        self.suspect
            || self.publishing > 0
            || !self.deferred.is_empty()
            || self.locked.failing()
            || self.unwritable.failing()
            || self.unpublished.failing()
    }

    /// So many of its deliveries are settled.
    pub(crate) fn settle(&mut self, count: usize, now: Instant) {
        self.held = self.held.saturating_sub(count);
        if count > 0 {
            self.stuck_since = now;
        }
    }

    /// Takes everything that it holds and nobody works on, as delivery tags.
    pub(crate) fn take_idle(&mut self) -> Vec<u64> {
        let buffered = self.buffer.drain(..).map(|message| message.tag);
        let letters = self.letters.drain(..).map(|letter| letter.tag);
        buffered.chain(letters).chain(self.deferred.drain(..)).collect()
    }

    /// Forgets every delivery: the channel that they came on is gone, and the broker delivers them again.
    pub(crate) fn forget(&mut self, now: Instant) {
        self.take_idle();
        (self.publishing, self.in_commit, self.busy, self.held) = (0, 0, 0, 0);
        self.queued = false;
        self.enter(State::Waiting { until: now });
    }

    /// Whether nothing of it is in flight any more.
    pub(crate) fn drained(&self) -> bool {
        self.state == State::Draining && self.in_commit == 0 && self.publishing == 0
    }

    /// What it does, for others.
    pub(crate) fn observed(&self) -> Observed {
        let state = match self.consuming {
            true => Standing::Running,
            false => Standing::Starting,
        };
        Observed {
            revision: self.revision,
            state,
            workers: count(self.workers),
            busy: count(self.busy),
            held: count(self.held),
        }
    }
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
