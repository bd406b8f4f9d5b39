//! What to do next about one tenant's messages. Pure.
//!
//! Positions only grow, and what is removed goes from the low end. So what is once [`Known`] of a table stays true while
//! nobody else removes: where it begins, how old its oldest row is, and how many rows there are up to a position. Each row
//! is counted once, after it was stored, and not again whenever something is to be removed; a tenant to whom nothing
//! happens costs nothing; and a gap in the positions, however large, is one step.
//!
//! Somebody else may remove by hand, and then there are fewer rows than were counted. So for being too many nothing is
//! removed that is among the newest positions, as many as messages are kept, and after an hour all is found out anew.

use std::time::Duration;

use time::OffsetDateTime;

use super::Retention;

/// With how many rows the first step of a tenant makes do, and the most of any: one is to be a moment's work whatever the
/// rows' size.
const ROWS_FIRST: i64 = 100;
const ROWS_MAX: i64 = 5_000;
/// A step that takes longer is followed by a smaller one, and one that is quicker by a larger one.
const STEP_LONG: Duration = Duration::from_millis(100);
const STEP_SHORT: Duration = Duration::from_millis(25);
/// How many rows are counted at a time: index entries, of which a step's time holds more.
const COUNTED_AT_ONCE: i64 = 25_000;
/// After how long what is known is found out anew.
const KNOWN_FOR: Duration = Duration::from_secs(3_600);

/// What is known of a tenant's table.
#[derive(Clone, Debug)]
pub(super) struct Known {
    since: OffsetDateTime,
    /// No row is left at it or below.
    low: i64,
    oldest: Oldest,
    /// So many rows are left up to `counted_to`.
    counted: i64,
    counted_to: i64,
    /// How many rows the next step may take.
    rows: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Oldest {
    Unknown,
    /// No row is left, up to this position.
    NoneTo(i64),
    /// When the oldest row was stored.
    At(OffsetDateTime),
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Rest,
    Count(Count),
    Remove(Remove),
}

/// To count the rows behind `after`, so many of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) after: i64,
    pub(super) rows: i64,
}

/// To look at the first rows behind `after`, so many of them, and to remove those that are too old up to the first that is
/// not, or that are among the first `excess` ones and not behind `excess_to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remove {
    pub(super) after: i64,
    pub(super) rows: i64,
    pub(super) excess: i64,
    pub(super) excess_to: i64,
}

/// What was removed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Removed {
    pub(super) rows: i64,
    /// The last position that is gone.
    pub(super) to: i64,
    /// How many rows were looked at.
    pub(super) seen: i64,
    /// The first of them that is left.
    pub(super) oldest: Option<(i64, OffsetDateTime)>,
}

impl Known {
    pub(super) fn new(now: OffsetDateTime) -> Self {
        Self {
            since: now,
            low: 0,
            oldest: Oldest::Unknown,
            counted: 0,
            counted_to: 0,
            rows: ROWS_FIRST,
        }
    }

    /// Whether it is to be found out anew: it is old, or the positions are not the ones that it was known of.
    pub(super) fn is_over(&self, last: i64, now: OffsetDateTime) -> bool {
        now > self.since + KNOWN_FOR || last < self.low || last < self.counted_to
    }

    /// What to do about a tenant whose last position is `last`, on the database's clock.
    pub(super) fn next(&self, retention: &Retention, last: i64, now: OffsetDateTime) -> Step {
        let is_too_old = retention.max_age().is_some_and(|age| match self.oldest {
            Oldest::Unknown => true,
            Oldest::NoneTo(to) => to < last,
            Oldest::At(at) => now - at > age,
        });
        let messages = retention.max_messages.map_or(i64::MAX, i64::from);
        let excess = (self.counted - messages).max(0);
        if is_too_old || excess > 0 {
            return Step::Remove(Remove {
                after: self.low,
                // One row more than has to go says how old the oldest is then.
                rows: if is_too_old {
                    self.rows
                } else {
                    self.rows.min(excess + 1)
                },
                excess,
                excess_to: last.saturating_sub(messages),
            });
        }
        // There are no more rows than positions.
        if last - self.low > messages && self.counted_to < last {
            return Step::Count(Count {
                after: self.counted_to,
                rows: COUNTED_AT_ONCE,
            });
        }
        Step::Rest
    }

    /// So many rows were found, up to a position, of so many that were asked for when `last` was the last position.
    pub(super) fn counted(&mut self, asked: i64, found: i64, to: Option<i64>, last: i64) {
        self.counted += found;
        let to = to.unwrap_or(self.counted_to);
        self.counted_to = if found < asked { to.max(last) } else { to };
    }

    /// This was removed in so much time, where so many rows were to be looked at when `last` was the last position.
    /// Answers whether it was of any use: where it was not, the next would not be either.
    pub(super) fn removed(&mut self, asked: i64, removed: &Removed, last: i64, took: Duration) -> bool {
        let before = self.oldest;
        self.counted -= removed.rows.min(self.counted);
        self.rises(removed.to);
        self.oldest = match removed.oldest {
            Some((position, at)) => {
                self.rises(position - 1);
                Oldest::At(at)
            }
            None if removed.seen < asked => {
                self.rises(last);
                Oldest::NoneTo(last)
            }
            None => Oldest::Unknown,
        };
        if took > STEP_LONG {
            self.rows = (self.rows / 2).max(1);
        } else if took < STEP_SHORT && removed.rows == self.rows {
            self.rows = (self.rows * 2).min(ROWS_MAX);
        }
        removed.rows > 0 || self.oldest != before
    }

    /// A step was not done in time.
    pub(super) fn took_too_long(&mut self) {
        self.rows = (self.rows / 8).max(1);
    }

    /// No row is left up to there.
    fn rises(&mut self, to: i64) {
        self.low = self.low.max(to);
        if self.low > self.counted_to {
            (self.counted, self.counted_to) = (0, self.low);
        }
    }
}

#[cfg(test)]
mod tests;
