//! What a lane was delivered and has not settled: waiting for a worker, or in a commit. Pure.

use std::{
    collections::VecDeque,
    time::{Duration, Instant, SystemTime},
};

use crate::{
    delivery::Message,
    flow::{Allowance, Traffic},
};

/// A lane's messages.
#[derive(Debug)]
pub(crate) struct Buffer {
    /// No worker has taken them yet.
    waiting: VecDeque<Message>,
    /// Deliveries without a body: there was no room for it. They go back once nothing comes any more.
    bodiless: Vec<u64>,
    /// How many messages are in a commit.
    in_commit: usize,
    /// Since when the first of these is on its way.
    in_commit_since: Option<SystemTime>,
    /// How many workers these are.
    busy: usize,
    /// How many deliveries are not settled, wherever they are.
    unsettled: usize,
    /// How many of them a consumer before the present one brought, as long as they are settled first.
    before: usize,
    /// Since when nothing has been settled although something is unsettled.
    stuck_since: Instant,
    /// When the last delivery came.
    came_at: Instant,
    /// What its messages are like.
    traffic: Traffic,
}

impl Buffer {
    pub(super) fn new(traffic: Traffic, now: Instant) -> Self {
        Self {
            waiting: VecDeque::new(),
            bodiless: Vec::new(),
            in_commit: 0,
            in_commit_since: None,
            busy: 0,
            unsettled: 0,
            before: 0,
            stuck_since: now,
            came_at: now,
            traffic,
        }
    }

    /// What its messages are like.
    pub(crate) fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// A delivery came, which takes so many bytes.
    pub(crate) fn came(&mut self, bytes: usize, now: Instant) {
        self.count_in(now);
        self.traffic.came(bytes);
    }

    /// A delivery came without its body, since there was no room for so many bytes.
    pub(crate) fn came_bodiless(&mut self, tag: u64, bytes: u64, now: Instant) {
        self.count_in(now);
        self.traffic.too_large(bytes);
        self.bodiless.push(tag);
    }

    fn count_in(&mut self, now: Instant) {
        if self.unsettled == 0 {
            self.stuck_since = now;
        }
        self.unsettled += 1;
        self.came_at = now;
    }

    /// A message is to be stored.
    pub(crate) fn push(&mut self, message: Message) {
        self.waiting.push_back(message);
    }

    /// Messages that were in a commit are to be tried again, before everything that came after them.
    pub(crate) fn put_back(&mut self, messages: Vec<Message>) {
        for message in messages.into_iter().rev() {
            self.waiting.push_front(message);
        }
    }

    /// Whether messages wait for a worker.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether some are in a commit.
    pub(crate) fn in_commit(&self) -> bool {
        self.in_commit > 0
    }

    /// How many workers are storing.
    pub(crate) fn busy(&self) -> usize {
        self.busy
    }

    /// How many deliveries are not settled.
    pub(crate) fn unsettled(&self) -> usize {
        self.unsettled
    }

    /// How many of them the present consumer brought.
    pub(super) fn of_consumer(&self) -> usize {
        self.unsettled - self.before
    }

    /// Another consumer brings what comes from now on.
    pub(super) fn begin(&mut self) {
        self.before = self.unsettled;
    }

    /// Whether there is nothing, and nothing has come for so long.
    pub(super) fn is_idle(&self, long: Duration, now: Instant) -> bool {
        self.unsettled == 0 && now >= self.came_at + long
    }

    /// For how long nothing has been settled although something is unsettled.
    pub(crate) fn stuck_for(&self, now: Instant) -> Duration {
        match self.unsettled {
            0 => Duration::ZERO,
            _ => now.saturating_duration_since(self.stuck_since),
        }
    }

    /// When the message that has waited longest to be stored was published, or else delivered: about, since a queue is in
    /// the order of its publishers' clocks only where there is one.
    pub(super) fn oldest(&self) -> Option<SystemTime> {
        let waiting = self.waiting.front().map(|message| message.since);
        self.in_commit_since.into_iter().chain(waiting).min()
    }

    /// Takes what so many workers may put into a commit, `most` of it: what has waited longest.
    pub(super) fn take(&mut self, workers: usize, most: usize, allowance: &mut Allowance) -> Vec<Message> {
        let rows = allowance.rows(workers).min(most);
        let messages = self.take_rows(rows, |bytes| allowance.take(bytes));
        self.busy = allowance.runs(workers, messages.len());
        messages
    }

    /// Takes what a lane under suspicion may put into a commit of its own.
    pub(super) fn take_apart(&mut self, rows: usize, bytes: usize) -> Vec<Message> {
        let mut bytes_left = bytes;
        let messages = self.take_rows(rows, |bytes| {
            bytes_left = bytes_left.saturating_sub(bytes);
            bytes_left > 0
        });
        self.busy = 1;
        messages
    }

    /// Takes up to `most` messages, as long as `another` fits after each.
    fn take_rows(&mut self, most: usize, mut another: impl FnMut(usize) -> bool) -> Vec<Message> {
        let mut fits = true;
        let rows = self.waiting.iter().take(most).take_while(|message| {
            let this = fits;
            fits = fits && another(message.payload.len());
            this
        });
        let rows = rows.count();
        // All of them with their room: thousands of lanes would keep it for nothing.
        let messages: Vec<_> = match rows == self.waiting.len() {
            true => std::mem::take(&mut self.waiting).into(),
            false => self.waiting.drain(..rows).collect(),
        };
        self.in_commit = messages.len();
        self.in_commit_since = messages.first().map(|message| message.since);
        messages
    }

    /// The commit with its messages has ended.
    pub(crate) fn committed(&mut self) {
        (self.in_commit, self.in_commit_since, self.busy) = (0, None, 0);
    }

    /// So many of its deliveries are settled.
    pub(crate) fn settle(&mut self, count: usize, now: Instant) {
        self.unsettled = self.unsettled.saturating_sub(count);
        self.before = self.before.saturating_sub(count);
        if count > 0 {
            self.stuck_since = now;
        }
    }

    /// Takes everything that no commit has, as delivery tags.
    pub(super) fn take_idle(&mut self) -> impl Iterator<Item = u64> {
        let waiting = std::mem::take(&mut self.waiting);
        let bodiless = std::mem::take(&mut self.bodiless);
        waiting.into_iter().map(|message| message.tag).chain(bodiless)
    }

    /// Forgets every delivery.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
        self.bodiless.clear();
        self.committed();
        (self.unsettled, self.before) = (0, 0);
    }
}
