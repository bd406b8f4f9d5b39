//! What is known of messages: how large they are, and how fast they come. Pure.

use std::time::{Duration, Instant};

/// Below this the mean says little about what comes.
const SEEN_MIN: u64 = 4;
/// What a message is taken to cost while none was seen.
const UNKNOWN_BYTES: usize = 2 << 10;
/// What a message costs beside its body.
const OVERHEAD_BYTES: usize = 1 << 10;

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
            0 => UNKNOWN_BYTES,
            _ => self.mean_bytes as usize + OVERHEAD_BYTES,
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
