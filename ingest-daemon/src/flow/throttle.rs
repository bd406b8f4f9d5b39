//! How fast a lane may be stored, where its tenant has a limit. Pure.
//!
//! What it may store comes in portions: it takes what there is, and when that is used up it waits for a portion. So at
//! its limit it has its turn some times a second, and not with every commit.

use std::time::{Duration, Instant};

/// How many messages a portion has, as long as that is for no less and no more time than this. What a lane holds
/// meanwhile is a gap in its neighbours' acknowledgements, and is to be short; to have its turn with every commit would
/// cost PostgreSQL more than it need.
const PORTION: f64 = 25.0;
const PORTION_SECONDS: [f64; 2] = [0.025, 0.1];
/// How many portions can be saved up, and may be held: what it missed while a commit was under way, it has afterwards.
const SAVED: f64 = 2.5;
/// Up to this rate a lane never has much, whatever waits in its queue.
const LITTLE_PER_SECOND: f64 = 100.0;
/// How many messages a second count as one worker's: a fraction of what one stores.
const WORKER_PER_SECOND: f64 = 2_500.0;
/// A smaller rate is nobody's: a tenant has one a second at least, however many daemons share it.
const PER_SECOND_MIN: f64 = 0.001;

/// A lane's limit, if it has one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Throttle {
    limit: Option<Limit>,
}

#[derive(Clone, Copy, Debug)]
struct Limit {
    per_second: f64,
    /// How many messages it might take at `at`.
    left: f64,
    at: Instant,
    /// It has used up what it might take, and waits.
    until: Option<Instant>,
}

impl Throttle {
    /// So many messages a second from now on, or as many as can be.
    pub(crate) fn set(&mut self, per_second: Option<f64>, now: Instant) {
        self.limit = per_second.map(|per_second| {
            let per_second = per_second.max(PER_SECOND_MIN);
            match self.limit {
                Some(limit) if limit.per_second == per_second => limit,
                Some(limit) => Limit::new(per_second, limit.left_at(now), now),
                None => Limit::new(per_second, f64::INFINITY, now),
            }
        });
    }

    /// Whether it is to wait.
    pub(crate) fn holds(self, now: Instant) -> bool {
        self.until().is_some_and(|until| now < until)
    }

    /// Until when.
    pub(crate) fn until(self) -> Option<Instant> {
        self.limit?.until
    }

    /// How many messages it may take, at least one where it is not to wait.
    pub(crate) fn may(self, now: Instant) -> usize {
        match self.limit {
            None => usize::MAX,
            Some(_) if self.holds(now) => 0,
            Some(limit) => (limit.left_at(now) as usize).max(1),
        }
    }

    /// It took so many.
    pub(crate) fn took(&mut self, messages: usize, now: Instant) {
        if let Some(limit) = &mut self.limit {
            *limit = Limit::new(limit.per_second, limit.left_at(now) - messages as f64, now);
        }
    }

    /// Whether it never has much, since it is not to have it.
    pub(crate) fn is_little(self) -> bool {
        self.limit
            .is_some_and(|limit| limit.per_second <= LITTLE_PER_SECOND)
    }

    /// How many of a lane's workers it keeps busy.
    pub(crate) fn workers(self, workers: usize) -> usize {
        match self.limit {
            None => workers,
            Some(limit) => workers.min((limit.per_second / WORKER_PER_SECOND).ceil() as usize),
        }
    }

    /// How many messages its consumer may hold.
    pub(super) fn prefetch(self) -> usize {
        match self.limit {
            None => usize::MAX,
            // A second's worth at most.
            Some(limit) => saved(limit.per_second).min(limit.per_second).max(1.0).ceil() as usize,
        }
    }

    /// How long so many messages take to be stored at least.
    pub(crate) fn takes(self, messages: usize) -> Duration {
        match self.limit {
            None => Duration::ZERO,
            Some(limit) => seconds(messages as f64 / limit.per_second),
        }
    }
}

impl Limit {
    fn new(per_second: f64, left: f64, now: Instant) -> Self {
        let portion = portion(per_second);
        let left = left.min(saved(per_second));
        let wait = || seconds((portion - left) / per_second);
        Self {
            per_second,
            left,
            at: now,
            until: (left < 1.0).then(|| now + wait()),
        }
    }

    fn left_at(self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.left + passed * self.per_second).min(saved(self.per_second))
    }
}

fn portion(per_second: f64) -> f64 {
    let [least, most] = PORTION_SECONDS.map(|seconds| per_second * seconds);
    PORTION.clamp(least, most).max(1.0)
}

fn saved(per_second: f64) -> f64 {
    portion(per_second) * SAVED
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(per_second: f64, now: Instant) -> Throttle {
        let mut throttle = Throttle::default();
        throttle.set(Some(per_second), now);
        throttle
    }

    /// What is taken within some time by one who takes what he may as soon as he may, but for a look every so often.
    fn taken(throttle: &mut Throttle, start: Instant, time: Duration, look: Duration) -> usize {
        let (mut now, mut taken) = (start, 0);
        while now < start + time {
            let most = throttle.may(now);
            if most > 0 {
                throttle.took(most, now);
                taken += most;
            }
            now += look;
        }
        taken
    }

    #[test]
    fn over_ten_seconds_it_is_the_rate_whatever_that_is_and_however_late_somebody_is() {
        let start = Instant::now();
        for per_second in [0.3, 1.0, 7.0, 100.0, 1_234.5, 100_000.0] {
            for look_ms in [1, 7, 60] {
                let mut throttle = limited(per_second, start);
                let look = Duration::from_millis(look_ms);
                let taken = taken(&mut throttle, start, Duration::from_secs(10), look) as f64;
                // And what was saved up at first.
                let most = per_second * 10.25 + 2.5;
                assert!(
                    taken <= most && taken >= per_second * 9.7 - 1.0,
                    "{per_second} {look_ms}: {taken}"
                );
            }
        }
    }

    #[test]
    fn who_stays_below_it_never_waits() {
        let start = Instant::now();
        let mut throttle = limited(50.0, start);
        for n in 0..1_000 {
            let now = start + Duration::from_millis(21) * n;
            assert!(!throttle.holds(now) && throttle.may(now) >= 1);
            throttle.took(1, now);
        }
    }

    #[test]
    fn at_it_a_portion_is_waited_for() {
        let now = Instant::now();
        let mut throttle = limited(100.0, now);
        assert_eq!(throttle.may(now), 25);
        throttle.took(25, now);
        assert_eq!((throttle.may(now), throttle.holds(now)), (0, true));
        let until = throttle.until().unwrap();
        assert_eq!(until, now + Duration::from_millis(100));
        assert_eq!((throttle.may(until), throttle.holds(until)), (10, false));
    }

    #[test]
    fn another_limit_holds_at_once_and_none_does_too() {
        let now = Instant::now();
        let mut throttle = limited(1.0, now);
        throttle.took(2, now);
        assert_eq!(throttle.takes(60), Duration::from_secs(60));
        throttle.set(Some(1_000.0), now);
        assert!(throttle.until().unwrap() <= now + Duration::from_millis(25));
        throttle.set(None, now);
        assert_eq!((throttle.may(now), throttle.until()), (usize::MAX, None));
        // The same again changes nothing.
        let mut throttle = limited(10.0, now);
        throttle.took(2, now);
        let until = throttle.until();
        throttle.set(Some(10.0), now + Duration::from_millis(50));
        assert_eq!(throttle.until(), until);
    }

    #[test]
    fn a_slow_lane_has_little_and_counts_as_one_worker_at_most() {
        let now = Instant::now();
        assert!(limited(100.0, now).is_little() && !limited(101.0, now).is_little());
        assert_eq!(limited(100.0, now).workers(16), 1);
        assert_eq!(limited(10_000.0, now).workers(16), 4);
        assert_eq!(Throttle::default().workers(16), 16);
        assert_eq!(limited(0.1, now).prefetch(), 1);
        assert_eq!(limited(1_000.0, now).prefetch(), 63);
    }
}
