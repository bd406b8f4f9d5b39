//! Growing pauses, decided purely: randomness is an argument.

use std::time::{Duration, Instant};

/// A pause that doubles with every failure and starts over after a success.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
    until: Option<Instant>,
}

impl Backoff {
    /// Pauses of `min` at first and `max` at most.
    pub(crate) const fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max,
            failures: 0,
            until: None,
        }
    }

    /// Counts a failure and answers when to try again. `random` in 0..1 spreads tries over the second half of the
    /// pause, so that many who failed together do not come back together.
    pub(crate) fn fail(&mut self, now: Instant, random: f64) -> Instant {
        let doubled = self.min.saturating_mul(1 << self.failures.min(20));
        let pause = doubled.min(self.max).mul_f64(0.5 + random / 2.0);
        self.failures = self.failures.saturating_add(1);
        let until = now + pause;
        self.until = Some(until);
        until
    }

    /// Starts over. Answers whether it had failed.
    pub(crate) fn reset(&mut self) -> bool {
        self.until = None;
        std::mem::take(&mut self.failures) > 0
    }

    /// Whether nothing is to be tried yet.
    pub(crate) fn holds(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until > now)
    }

    /// When the next try is due, if a failure is what came last.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// How often it has failed in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether the last try failed.
    pub(crate) fn failing(&self) -> bool {
        self.failures > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_most_and_start_over() {
        let now = Instant::now();
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(300));
        assert!(!backoff.holds(now) && !backoff.reset());
        let pauses: Vec<_> = (0..4)
            .map(|_| (backoff.fail(now, 1.0) - now).as_millis())
            .collect();
        assert_eq!(pauses, [100, 200, 300, 300]);
        assert!(backoff.holds(now) && !backoff.holds(now + Duration::from_millis(300)));
        assert!(backoff.reset() && !backoff.holds(now));
        assert_eq!((backoff.fail(now, 0.0) - now).as_millis(), 50);
    }
}
