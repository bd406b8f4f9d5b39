//! How fast dead letters are sent again. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;

/// The fastest pace that can be asked for.
const PER_SECOND_MAX: i32 = 1_000_000;
/// The longest pause between two portions, which is that of one letter a second.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(1);
/// So many portions a second, where each has more than one letter.
const PORTIONS: u32 = 10;

/// At most how many are sent a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PerSecond(u32);

impl PerSecond {
    /// Checks what a caller sent.
    pub(crate) fn new(wanted: Option<i32>) -> Result<Option<Self>, Error> {
        match wanted {
            None => Ok(None),
            Some(count) if (1..=PER_SECOND_MAX).contains(&count) => Ok(Some(Self(count.unsigned_abs()))),
            Some(count) => Err(Error::invalid(
                "per_second",
                format!("must be between 1 and {PER_SECOND_MAX}, got {count}; leave it out for no bound"),
            )),
        }
    }
}

/// A pace that is kept. What was missed is not caught up with: it is never faster than was asked.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: Option<PerSecond>,
    due: Instant,
}

impl Pace {
    pub(super) fn new(per_second: Option<PerSecond>, now: Instant) -> Self {
        Self { per_second, due: now }
    }

    /// How many to send at once.
    pub(super) fn portion(&self) -> usize {
        self.per_second
            .map_or(usize::MAX, |PerSecond(count)| (count / PORTIONS).max(1) as usize)
    }

    /// So many were sent at `now`: when the next may be, if that has to be waited for.
    pub(super) fn sent(&mut self, count: usize, now: Instant) -> Option<Instant> {
        let PerSecond(per_second) = self.per_second?;
        let portion = u32::try_from(count).unwrap_or(u32::MAX);
        let pause = (Duration::from_secs(1) * portion / per_second).min(PAUSE_MAX);
        self.due = (self.due + pause).max(now);
        (self.due > now).then_some(self.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_1_to_a_million_a_second() {
        assert_eq!(PerSecond::new(None).unwrap(), None);
        assert!(PerSecond::new(Some(1)).is_ok() && PerSecond::new(Some(PER_SECOND_MAX)).is_ok());
        for bad in [0, -1, PER_SECOND_MAX + 1] {
            let error = PerSecond::new(Some(bad)).unwrap_err().to_string();
            assert!(
                error.starts_with("per_second must") && error.contains("1 and 1000000"),
                "{error}"
            );
        }
    }

    #[test]
    fn as_many_are_sent_in_a_time_as_were_asked_for_and_no_more() {
        let start = Instant::now();
        for (per_second, seconds) in [(1, 5), (7, 10), (250, 4), (30_000, 2)] {
            let mut pace = Pace::new(PerSecond::new(Some(per_second)).unwrap(), start);
            let (mut now, mut sent) = (start, 0);
            while now < start + Duration::from_secs(seconds) {
                let portion = pace.portion().min(256);
                sent += portion;
                // The next begins a little late.
                let took = now + Duration::from_micros(100);
                now = pace.sent(portion, took).unwrap_or(took);
            }
            let wanted = per_second as usize * seconds as usize;
            assert!(
                (wanted * 9 / 10..=wanted + pace.portion()).contains(&sent),
                "{sent} at {per_second}"
            );
        }
    }

    #[test]
    fn without_one_nobody_waits_and_who_is_late_does_not_hurry() {
        let now = Instant::now();
        let mut none = Pace::new(None, now);
        assert_eq!((none.portion(), none.sent(1_000, now)), (usize::MAX, None));
        let mut one = Pace::new(PerSecond::new(Some(1)).unwrap(), now);
        let late = now + Duration::from_secs(60);
        assert_eq!(one.sent(1, late), None);
        assert_eq!(one.sent(1, late), Some(late + Duration::from_secs(1)));
    }
}
