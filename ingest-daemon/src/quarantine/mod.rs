//! Whether a tenant's messages are stored together with its neighbours', or apart. Pure.
//!
//! A commit holds many tenants' messages, so one whose table is locked, slow or broken could hold up all of them. A lane
//! that is blamed for a commit that failed is under suspicion: from then on its messages are stored by a committer and
//! on PostgreSQL connections that only suspects use, one tenant to a commit, with growing pauses. Its neighbours wait
//! for it once, within the bounds of [`commit`](crate::commit), and never again. It comes back after it has behaved.
//! Suspects are of two paces: those whose commits take seconds keep waiting only each other, and not somebody whose
//! table was locked for a moment, say.
//!
//! The broker's side needs no such place: what could kill the client is kept from it by the wall before it
//! ([`common::broker`]), and what would close the channel that lanes share is tried on one of its own first
//! ([`broker`](crate::broker)).

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use uuid::Uuid;

use crate::{
    clock::Now,
    lane::{Kind, Problem, Trouble},
};

/// So many different messages refused in a row, and none stored, are a fault of the table and not of the messages.
const REFUSED_MAX: usize = 20;
/// A table is locked, or being made or dropped: seconds.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How many messages are stored together after a failure, and after what may have been none; they double with every good
/// commit.
const ROWS_FIRST: usize = 1;
const ROWS_DOUBTED: usize = 16;
/// And at most: a run.
const ROWS_MAX: usize = 250;
/// A commit that takes longer, and longer than so many ordinary ones on the day, would be felt by its neighbours. (On an
/// idle machine those take 2 to 20 ms.)
const QUICK: Duration = Duration::from_millis(100);
const QUICK_ORDINARY: u32 = 4;
/// One that takes longer, and longer than so many ordinary ones, is a trouble of its own.
const SLOW: Duration = Duration::from_secs(1);
const SLOW_ORDINARY: u32 = 10;
/// It has behaved after so many good commits in a row, over so long a time, which doubles with every return.
const GOOD_COMMITS: u32 = 3;
const GOOD_FOR_MIN: Duration = Duration::from_millis(500);
const GOOD_FOR_MAX: Duration = Duration::from_secs(60);
/// One that is not good but not bad either for so long is tried among its neighbours, who bear that once.
const TOLERABLE_FOR: Duration = Duration::from_secs(30);
/// What was longer ago is forgotten.
const OFFENCES_LAST: Duration = Duration::from_secs(600);

/// Which suspects are stored one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Those that fail or are stored within a second or so.
    Quick,
    /// Those that take longer, up to half a minute.
    Slow,
}

/// What is thought of a lane's table.
#[derive(Debug)]
pub(crate) struct Trust {
    table: Trouble,
    suspicion: Option<Suspicion>,
    /// At which it is stored while it is suspect.
    pace: Pace,
    /// How often it has been under suspicion lately, and when that began last.
    offences: u32,
    offended_at: Option<Instant>,
    /// Different messages that were refused since one was stored.
    refused: BTreeSet<Uuid>,
}

/// How a lane under suspicion behaves.
#[derive(Clone, Copy, Debug)]
struct Suspicion {
    rows: usize,
    /// How many good commits there were since the last other one, and when that was.
    good: u32,
    good_since: Instant,
    /// When the last bad one was.
    tolerable_since: Instant,
}

impl Default for Trust {
    fn default() -> Self {
        Self {
            table: Trouble::none(Kind::Table, PAUSE_MIN, PAUSE_MAX),
            suspicion: None,
            pace: Pace::Quick,
            offences: 0,
            offended_at: None,
            refused: BTreeSet::new(),
        }
    }
}

impl Trust {
    /// Whether its messages are to be stored apart.
    pub(crate) fn is_suspect(&self) -> bool {
        self.suspicion.is_some()
    }

    /// Among which suspects its messages are to be stored; none while it is trusted.
    pub(crate) fn pace(&self) -> Option<Pace> {
        self.suspicion.map(|_| self.pace)
    }

    /// A commit of its own took so long.
    pub(crate) fn took(&mut self, took: Duration, stored: bool) {
        match (self.suspicion, took > SLOW) {
            (Some(_), true) => self.pace = Pace::Slow,
            // What fails may do so at once although storing would take long.
            (Some(_), false) if !stored => {}
            _ => self.pace = Pace::Quick,
        }
    }

    /// Whether it is to be left alone for a moment.
    pub(crate) fn holds(&self, now: Instant) -> bool {
        self.table.holds(now)
    }

    /// When it may be tried again.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.table.until()
    }

    /// What is wrong with its table.
    pub(crate) fn problem(&self) -> Option<&Problem> {
        self.table.problem()
    }

    /// How often in a row its table could not be written.
    pub(crate) fn failures(&self) -> u32 {
        self.table.failures()
    }

    /// How many of its messages are to be stored together while it is suspect.
    pub(crate) fn rows(&self) -> usize {
        self.suspicion.map_or(ROWS_MAX, |suspicion| suspicion.rows)
    }

    /// Its commit failed or was slow, and what it is to blame for will be seen when it is stored apart.
    pub(crate) fn doubt(&mut self, now: Instant) {
        if !self.is_suspect() {
            self.suspect(ROWS_DOUBTED, now);
        }
    }

    /// Its commit failed, and it was to blame. Answers whether that is new.
    pub(crate) fn blame(&mut self, why: &str, now: Now) -> bool {
        self.suspect(ROWS_FIRST, now.instant);
        self.table.fail(why, now)
    }

    /// Some of its messages were stored, by a commit that took so long where the neighbours' take `ordinary`. Answers
    /// whether a problem has ended.
    pub(crate) fn stored(&mut self, took: Duration, ordinary: Duration, now: Now) -> bool {
        self.refused.clear();
        let Some(suspicion) = &mut self.suspicion else {
            return self.table.end();
        };
        if took > SLOW.max(ordinary * SLOW_ORDINARY) {
            *suspicion = Suspicion::new((suspicion.rows / 2).max(ROWS_FIRST), now.instant);
            let detail = format!(
                "storing takes {:.1} s: the tenant's table is slow, perhaps of a trigger on it; other tenants are stored \
                 apart from it",
                took.as_secs_f64()
            );
            self.table.fail(&detail, now);
            return false;
        }
        suspicion.rows = (suspicion.rows * 2).min(ROWS_MAX);
        if took > QUICK.max(ordinary * QUICK_ORDINARY) {
            (suspicion.good, suspicion.good_since) = (0, now.instant);
        } else {
            suspicion.good += 1;
        }
        let doubled = |time: Duration| time.saturating_mul(1 << self.offences.saturating_sub(1).min(16));
        let since = |at| now.instant.saturating_duration_since(at);
        let good = suspicion.good >= GOOD_COMMITS
            && since(suspicion.good_since) >= doubled(GOOD_FOR_MIN).min(GOOD_FOR_MAX);
        if good || since(suspicion.tolerable_since) >= doubled(TOLERABLE_FOR) {
            self.suspicion = None;
        }
        self.table.end()
    }

    /// One of its messages was refused, alone. Answers whether that counts as an attempt of the message's; if not, the
    /// table is to blame, and the message is to be kept.
    pub(crate) fn refused(&mut self, id: Uuid) -> bool {
        self.refused.contains(&id) || (self.refused.len() < REFUSED_MAX && self.refused.insert(id))
    }

    /// Messages were refused that are not to blame for it. Answers whether that is new.
    pub(crate) fn refuses_all(&mut self, why: &str, now: Now) -> bool {
        self.suspect(ROWS_MAX, now.instant);
        let detail = format!(
            "the last {REFUSED_MAX} different messages were refused and none was stored, so the others are held and no \
             attempt of theirs is counted: {why}"
        );
        self.table.fail(&detail, now)
    }

    fn suspect(&mut self, rows: usize, now: Instant) {
        if self.suspicion.is_none() {
            let long_ago = self
                .offended_at
                .is_none_or(|at| now.saturating_duration_since(at) > OFFENCES_LAST);
            self.offences = if long_ago {
                1
            } else {
                self.offences.saturating_add(1)
            };
            self.offended_at = Some(now);
        }
        self.suspicion = Some(Suspicion::new(rows, now));
    }
}

impl Suspicion {
    fn new(rows: usize, now: Instant) -> Self {
        Self {
            rows,
            good: 0,
            good_since: now,
            tolerable_since: now,
        }
    }
}

#[cfg(test)]
mod tests;
