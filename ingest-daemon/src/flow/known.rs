//! What is known of a lane's messages and of a shard's. Pure.

use std::time::{Duration, Instant};

use super::policy::{BYTES_OVERHEAD, BYTES_UNKNOWN, COMPANY, COMPANY_ROWS, LATELY, SEEN_MIN};

/// What a lane's messages have been like.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    seen: u64,
    mean_bytes: f64,
}

impl Traffic {
    /// A message of so many bytes came. The mean follows the last hundred or so.
    pub(crate) fn came(&mut self, bytes: usize) {
        self.seen = self.seen.saturating_add(1);
        let weight = (1.0 / self.seen as f64).max(0.01);
        self.mean_bytes += (bytes as f64 - self.mean_bytes) * weight;
    }

    /// A message came of which there was no room for the body. What came before says nothing about what comes now.
    pub(crate) fn too_large(&mut self, bytes: u64) {
        (self.seen, self.mean_bytes) = (1, bytes as f64);
    }

    /// Whether enough came to know what a message costs.
    pub(crate) fn is_known(self) -> bool {
        self.seen >= SEEN_MIN
    }

    /// What a message costs.
    pub(super) fn bytes_each(self) -> usize {
        match self.seen {
            0 => BYTES_UNKNOWN,
            _ => self.mean_bytes as usize + BYTES_OVERHEAD,
        }
    }
}

/// How many came lately: what is older counts less and less.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    over: Duration,
    count: f64,
    at: Option<Instant>,
}

impl Rate {
    /// None so far. It follows about what came within `over`.
    pub(crate) const fn over(over: Duration) -> Self {
        Self {
            over,
            count: 0.0,
            at: None,
        }
    }

    /// So many came.
    pub(crate) fn add(&mut self, count: usize, now: Instant) {
        self.count = self.left(now) + count as f64;
        self.at = Some(now);
    }

    /// How many are to be expected within `time`.
    pub(crate) fn within(&self, time: Duration, now: Instant) -> f64 {
        self.left(now) * time.as_secs_f64() / self.over.as_secs_f64()
    }

    fn left(&self, now: Instant) -> f64 {
        let passed = self
            .at
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.count * (-passed.as_secs_f64() / self.over.as_secs_f64()).exp()
    }
}

/// What a commit was filled with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filled {
    /// How many tenants it is of.
    pub(crate) tenants: usize,
    /// How many rows it has.
    pub(crate) rows: usize,
    /// How many of them are of lanes that have little.
    pub(crate) quiet_rows: usize,
    /// Whether there are lanes that have much.
    pub(crate) busy: bool,
    /// How many messages its lanes can be expected to have waiting at once, and may put into one commit.
    pub(crate) room: usize,
    /// Whether more waited than it had room for.
    pub(crate) left: bool,
}

/// What is known of a shard's messages.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(super) arrivals: Rate,
    /// Of lanes that have little, into commits that they share with lanes that have much.
    quiet: Rate,
    company_until: Option<Instant>,
    /// How many came since the last commit was filled.
    pub(super) came: usize,
    pub(super) last: Option<Filled>,
    /// When the last commit ended.
    pub(super) ended: Option<Instant>,
}

impl Stream {
    pub(crate) const fn new() -> Self {
        Self {
            arrivals: Rate::over(LATELY),
            quiet: Rate::over(COMPANY),
            company_until: None,
            came: 0,
            last: None,
            ended: None,
        }
    }

    /// Messages came.
    pub(crate) fn came(&mut self, count: usize, now: Instant) {
        self.came += count;
        self.arrivals.add(count, now);
    }

    /// A commit was filled.
    pub(crate) fn filled(&mut self, filled: Filled, now: Instant) {
        // Where most rows are of such lanes it is they who are many, and not one that is in their way.
        if filled.busy && (1..filled.rows / 2).contains(&filled.quiet_rows) {
            self.quiet.add(filled.quiet_rows, now);
            if self.quiet.within(COMPANY, now) >= COMPANY_ROWS {
                self.company_until = Some(now + COMPANY);
            }
        }
        self.came = 0;
        self.last = Some(filled);
    }

    /// A commit has ended, and something is stored or not.
    pub(crate) fn ended(&mut self, stored: bool, now: Instant) {
        self.ended = Some(now);
        if !stored {
            self.last = None;
        }
    }

    /// Whether messages of quiet tenants share commits with those of busy ones.
    pub(crate) fn has_company(&self, now: Instant) -> bool {
        self.company_until.is_some_and(|until| now < until)
    }
}
