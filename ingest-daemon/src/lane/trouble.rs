//! Something of a lane that does not work: a growing pause before it is tried again, and what is said of it meanwhile.
//! Pure.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use crate::{backoff::Backoff, clock::Now};

/// The most bytes of what is said: a database's or a broker's words can be of any length.
const DETAIL_BYTES_MAX: usize = 1_000;

/// What is wrong with a tenant's lane, for whoever is to do something about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// What it is about.
    pub(crate) kind: Kind,
    /// What happened, and what to do.
    pub(crate) detail: Arc<str>,
    /// Since when.
    pub(crate) since: SystemTime,
}

/// What a problem is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its queue cannot be consumed.
    Queue,
    /// Its table cannot be written, or only slowly.
    Table,
    /// What its queue has cannot be taken.
    Delivery,
    /// What failed cannot be published.
    Letters,
}

/// Whether something is in trouble, and what of it.
#[derive(Debug)]
pub(crate) struct Trouble {
    kind: Kind,
    backoff: Backoff,
    problem: Option<Problem>,
}

impl Trouble {
    /// None yet. Pauses of `min` at first and `max` at most.
    pub(crate) const fn none(kind: Kind, min: Duration, max: Duration) -> Self {
        Self {
            kind,
            backoff: Backoff::new(min, max),
            problem: None,
        }
    }

    /// It did not work. Answers whether it did before: that is worth a line in the log.
    pub(crate) fn fail(&mut self, why: &str, now: Now) -> bool {
        self.backoff.fail(now.instant, now.random);
        let (why, new) = (cut(why), self.problem.is_none());
        let since = self.problem.as_ref().map_or(now.time, |problem| problem.since);
        if self
            .problem
            .as_ref()
            .is_none_or(|problem| &*problem.detail != why)
        {
            self.problem = Some(Problem {
                kind: self.kind,
                detail: why.into(),
                since,
            });
        }
        new
    }

    /// It works. Answers whether it did not before.
    pub(crate) fn end(&mut self) -> bool {
        self.backoff.reset();
        self.problem.take().is_some()
    }

    /// Whether it is not to be tried yet.
    pub(crate) fn holds(&self, now: Instant) -> bool {
        self.backoff.holds(now)
    }

    /// When it is to be tried again.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.backoff.until()
    }

    /// How often it has failed in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    /// What is wrong, if something is.
    pub(crate) fn problem(&self) -> Option<&Problem> {
        self.problem.as_ref()
    }

    /// Whether something is wrong.
    pub(crate) fn is_there(&self) -> bool {
        self.problem.is_some()
    }
}

fn cut(text: &str) -> &str {
    match text.len() > DETAIL_BYTES_MAX {
        true => &text[..text.floor_char_boundary(DETAIL_BYTES_MAX)],
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn what_is_said_is_the_newest_and_its_time_the_first() {
        let now = |seconds| Now {
            instant: Instant::now(),
            time: UNIX_EPOCH + Duration::from_secs(seconds),
            random: 0.5,
        };
        let mut trouble = Trouble::none(Kind::Table, Duration::from_millis(1), Duration::from_secs(1));
        assert!(!trouble.is_there() && !trouble.end());
        assert!(trouble.fail("locked", now(1)));
        assert!(!trouble.fail(&"é".repeat(1_000), now(2)));
        let problem = trouble.problem().unwrap();
        assert_eq!((problem.since, problem.detail.len()), (now(1).time, 1_000));
        assert_eq!(trouble.failures(), 2);
        assert!(trouble.end() && trouble.problem().is_none());
    }
}
