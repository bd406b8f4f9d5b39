//! What is known of messages: how large they are, and how fast they come. Pure.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

/// Below this the mean says little about what comes.
const SEEN_MIN: u64 = 4;
/// By what factor the mean may be off from what was told of it.
const STATED_FACTOR: f64 = 2.0;
/// What a message is taken to cost while none was seen.
const UNKNOWN_BYTES: usize = 2 << 10;
/// What a message costs beside its body.
const OVERHEAD_BYTES: usize = 1 << 10;

/// What a lane's messages have been like.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    seen: u64,
    mean_bytes: f64,
    /// The mean as others know it.
    stated: Option<NonZeroU32>,
}

impl Traffic {
    /// What it was said to have been like, where a lane starts that others ran before: as good as seen.
    pub(crate) fn told(bytes: Option<NonZeroU32>) -> Self {
        bytes.map_or_else(Self::default, |bytes| Self {
            seen: SEEN_MIN,
            mean_bytes: bytes.get().into(),
            stated: Some(bytes),
        })
    }

    /// A message of so many bytes came. The mean follows the last hundred or so.
    pub(crate) fn came(&mut self, bytes: usize) {
        self.seen = self.seen.saturating_add(1);
        let weight = (1.0 / self.seen as f64).max(0.01);
        self.mean_bytes += (bytes as f64 - self.mean_bytes) * weight;
        let off = self.stated.is_none_or(|stated| {
            let ratio = self.mean_bytes / f64::from(stated.get());
            !(1.0 / STATED_FACTOR..=STATED_FACTOR).contains(&ratio)
        });
        if off && self.is_known() {
            self.stated = NonZeroU32::new(self.mean_bytes.max(1.0) as u32);
        }
    }

    /// A message came of which there was no room for the body. What came before says nothing about what comes now.
    pub(crate) fn too_large(&mut self, bytes: u64) {
        (self.seen, self.mean_bytes) = (1, bytes as f64);
    }

    /// Whether enough came to know what a message costs.
    pub(crate) fn is_known(self) -> bool {
        self.seen >= SEEN_MIN
    }

    /// How many bytes one takes, for whoever runs the lane next: about, so that it is seldom another figure.
    pub(crate) fn stated(self) -> Option<NonZeroU32> {
        self.stated
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_lane_was_told_counts_as_seen_and_what_comes_corrects_it() {
        let mut traffic = Traffic::told(NonZeroU32::new(1_000));
        assert!(traffic.is_known());
        assert_eq!(traffic.bytes_each(), 1_000 + OVERHEAD_BYTES);
        (0..100).for_each(|_| traffic.came(100_000));
        assert!(traffic.bytes_each() > 50_000, "{traffic:?}");
        traffic.too_large(1 << 20);
        assert!(!traffic.is_known());
        assert!(!Traffic::told(None).is_known());
    }

    #[test]
    fn the_mean_is_stated_once_it_is_known_and_again_when_it_is_off_by_half() {
        let mut traffic = Traffic::default();
        (0..3).for_each(|_| traffic.came(256));
        assert_eq!(traffic.stated(), None);
        traffic.came(256);
        assert_eq!(traffic.stated(), NonZeroU32::new(256));
        (0..1_000).for_each(|n| traffic.came(if n % 2 == 0 { 200 } else { 400 }));
        assert_eq!(traffic.stated(), NonZeroU32::new(256));
        (0..1_000).for_each(|_| traffic.came(0));
        assert_eq!(traffic.stated(), NonZeroU32::new(1), "an empty body is one, too");
    }
}
