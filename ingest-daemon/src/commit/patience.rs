//! How long a statement may take. Pure.
//!
//! In a commit that many share, not long: whoever holds it up is found and tried alone. Alone a tenant may take its
//! time, as it then takes nobody else's.

use std::{collections::HashMap, time::Duration};

use common::id::TenantId;

use crate::quarantine::Pace;

/// A shared commit takes a few dozen milliseconds where it is large.
const SHARED: Duration = Duration::from_millis(250);
/// Where PostgreSQL is slow for everybody, up to sixteen times that.
const SHARED_DOUBLINGS_MAX: u32 = 4;
/// So many commits in a row that took less than a quarter of what they may halve it again.
const SHARED_QUICK: u32 = 64;

const SUSPECT: Duration = Duration::from_millis(300);
/// What a tenant's commit may take at most, alone.
const SUSPECT_MAX: Duration = Duration::from_secs(30);
/// From here on a suspect's commit is one row, with the most patience there is.
const SUSPECT_LEVEL_MAX: u32 = 4;
/// So many commits in a row that would have been in time with less patience end a level of it.
const SUSPECT_QUICK: u32 = 8;
/// And this far among others: what is slower waits for nobody but its like.
const QUICK_LEVEL_MAX: u32 = 1;
/// Slow tenants that are remembered at most. One that is forgotten is found out again.
const SUSPECTS_MAX: usize = 1_000;

/// A lock is waited for half as long as anything else, and never long: it is held until it is not.
const LOCK_MAX: Duration = Duration::from_millis(500);
/// What comes after a suspect's statement: the commit, and with it the disk.
const SUSPECT_GRACE: Duration = Duration::from_millis(500);

/// How long one statement may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    /// In PostgreSQL, which then cancels it.
    pub(super) statement: Duration,
    /// Waiting for one lock, likewise.
    pub(super) lock: Duration,
    /// Until its answer is here; the session is given up otherwise.
    pub(super) answer: Duration,
}

/// On what terms a commit is tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// For all of it.
    pub(super) whole: Patience,
    /// For a part, while it is found out whom to blame.
    pub(super) part: Patience,
    /// For asking whether PostgreSQL is well.
    pub(super) probe: Patience,
    /// After this no other part is tried; what is left comes with the next commit.
    pub(super) budget: Duration,
    /// How many rows of a tenant are tried.
    pub(super) rows_max: usize,
}

impl Patience {
    /// With a grace for what comes after the statement: the commit, and with it the disk.
    fn new(statement: Duration, grace: Duration) -> Self {
        Self {
            statement,
            lock: (statement / 2).min(LOCK_MAX),
            answer: statement + grace,
        }
    }
}

/// The patience with commits that are shared. It grows only when nobody is to blame for the time they take.
#[derive(Debug, Default)]
pub(super) struct Shared {
    doublings: u32,
    quick: u32,
}

impl Shared {
    /// The terms of the next commit. One tenant to blame among the 250 of a commit costs its neighbours the whole's
    /// 250 ms and 100 ms at each of three levels, beside what is stored meanwhile; one that first comes to light when
    /// the transaction ends costs the 300 ms until the session is given up beyond that.
    pub(super) fn terms(&self) -> Terms {
        let whole = SHARED * (1 << self.doublings);
        let part = Patience::new(whole * 2 / 5, whole);
        Terms {
            whole: Patience::new(whole, whole * 6 / 5),
            part,
            probe: part,
            budget: whole * 5,
            rows_max: usize::MAX,
        }
    }

    /// A commit took so long, and nothing failed.
    pub(super) fn stored(&mut self, took: Duration) {
        if took >= self.terms().whole.statement / 4 {
            self.quick = 0;
            return;
        }
        self.quick += 1;
        if self.quick >= SHARED_QUICK {
            self.quick = 0;
            self.doublings = self.doublings.saturating_sub(1);
        }
    }

    /// A commit took too long, and it was nobody's fault.
    pub(super) fn too_slow(&mut self) {
        self.quick = 0;
        self.doublings = (self.doublings + 1).min(SHARED_DOUBLINGS_MAX);
    }
}

/// The patience with suspects, each on its own.
#[derive(Debug)]
pub(super) struct Suspects {
    slow: HashMap<TenantId, Slow>,
    level_max: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slow {
    level: u32,
    quick: u32,
}

impl Suspects {
    /// Of this pace.
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            slow: HashMap::new(),
            level_max: match pace {
                Pace::Quick => QUICK_LEVEL_MAX,
                Pace::Slow => SUSPECT_LEVEL_MAX,
            },
        }
    }

    /// The terms of this tenant's next commit: four times the patience and an eighth of the rows with every failure,
    /// so that even a row that takes half a minute is stored.
    pub(super) fn terms(&self, tenant: Option<TenantId>) -> Terms {
        let slow = tenant.and_then(|tenant| self.slow.get(&tenant));
        let level = slow.map_or(0, |slow| slow.level);
        let patience = Patience::new(suspect(level), SUSPECT_GRACE);
        Terms {
            whole: patience,
            part: patience,
            probe: Patience::new(SUSPECT, SUSPECT_GRACE),
            budget: patience.answer.max(Duration::from_secs(1)),
            rows_max: match level {
                0 => usize::MAX,
                level => 512_usize.checked_shr(3 * level).unwrap_or(0).max(1),
            },
        }
    }

    /// A commit of this tenant took so long.
    pub(super) fn stored(&mut self, tenant: TenantId, took: Duration) {
        let Some(slow) = self.slow.get_mut(&tenant) else {
            return;
        };
        if took >= suspect(slow.level.saturating_sub(1)) / 2 {
            slow.quick = 0;
            return;
        }
        slow.quick += 1;
        if slow.quick >= SUSPECT_QUICK {
            slow.quick = 0;
            slow.level -= 1;
        }
        if slow.level == 0 {
            self.slow.remove(&tenant);
        }
    }

    /// A commit of this tenant took too long.
    pub(super) fn too_slow(&mut self, tenant: TenantId) {
        if self.slow.len() >= SUSPECTS_MAX && !self.slow.contains_key(&tenant) {
            self.slow.clear();
        }
        let slow = self.slow.entry(tenant).or_default();
        slow.quick = 0;
        slow.level = (slow.level + 1).min(self.level_max);
    }
}

fn suspect(level: u32) -> Duration {
    SUSPECT
        .saturating_mul(4_u32.saturating_pow(level))
        .min(SUSPECT_MAX)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn shared_patience_grows_while_nobody_is_to_blame_and_shrinks_while_commits_are_quick() {
        let mut shared = Shared::default();
        assert_eq!(shared.terms().whole.statement, SHARED);
        for _ in 0..9 {
            shared.too_slow();
        }
        assert_eq!(shared.terms().whole.statement, SHARED * 16);
        for _ in 0..SHARED_QUICK {
            shared.stored(Duration::from_millis(20));
        }
        assert_eq!(shared.terms().whole.statement, SHARED * 8);
        for _ in 0..10 * SHARED_QUICK {
            shared.stored(Duration::from_millis(600));
        }
        assert_eq!(shared.terms().whole.statement, SHARED * 8);
    }

    #[test]
    fn a_slow_suspect_gets_more_time_for_fewer_rows_and_nobody_else_does() {
        let (slow, other) = (TenantId(Uuid::from_u128(1)), TenantId(Uuid::from_u128(2)));
        let mut suspects = Suspects::new(Pace::Slow);
        let mut seen = Vec::new();
        for _ in 0..6 {
            let terms = suspects.terms(Some(slow));
            seen.push((terms.whole.statement.as_millis(), terms.rows_max));
            suspects.too_slow(slow);
        }
        assert_eq!(
            seen,
            [
                (300, usize::MAX),
                (1_200, 64),
                (4_800, 8),
                (19_200, 1),
                (30_000, 1),
                (30_000, 1)
            ]
        );
        assert_eq!(suspects.terms(Some(other)).whole.statement, SUSPECT);
        assert!(suspects.terms(Some(slow)).whole.lock <= LOCK_MAX);
        // Once it is quick again it is trusted again.
        for _ in 0..SUSPECT_LEVEL_MAX * SUSPECT_QUICK {
            suspects.stored(slow, Duration::from_millis(10));
        }
        assert_eq!(suspects.terms(Some(slow)).rows_max, usize::MAX);
        assert!(suspects.slow.is_empty());
    }

    #[test]
    fn a_suspect_that_others_wait_for_gets_little_more_than_a_second() {
        let tenant = TenantId(Uuid::from_u128(1));
        let mut suspects = Suspects::new(Pace::Quick);
        (0..9).for_each(|_| suspects.too_slow(tenant));
        assert_eq!(
            suspects.terms(Some(tenant)).whole.answer,
            Duration::from_millis(1_700)
        );
    }
}
