//! How much goes into a commit. Pure.
//!
//! Every ready tenant gets up to as many runs as it has workers, the tenant that waits longest first. The more runs
//! that makes, the fewer rows each may have: so a tenant's workers are its share of the commit, and a wide tenant
//! never crowds out a narrow one.

use super::{COMPANY_RUNS, THIN_ROWS, THIN_TENANTS_MIN};
use crate::config::Ingest;

/// Whether a commit of so many rows of so many tenants says that the next one had better be larger.
pub(crate) fn thin(rows: usize, tenants: usize) -> bool {
    tenants >= THIN_TENANTS_MIN && rows < tenants.saturating_mul(THIN_ROWS)
}

/// What bounds a commit.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// The most rows of a run.
    pub(crate) run_rows: usize,
    /// The most rows.
    pub(crate) rows: usize,
    /// The most rows when they are of many tenants.
    pub(crate) rows_spread: usize,
    /// About the most bytes.
    pub(crate) bytes: usize,
    /// The most tenants.
    pub(crate) tenants: usize,
}

impl From<&Ingest> for Limits {
    fn from(ingest: &Ingest) -> Self {
        Self {
            run_rows: ingest.run_messages,
            rows: ingest.commit_messages,
            rows_spread: ingest.commit_messages_spread,
            bytes: ingest.commit_bytes,
            tenants: ingest.commit_tenants,
        }
    }
}

/// What is left of one commit's bounds while it is filled.
#[derive(Debug)]
pub(crate) struct Allowance {
    run_rows: usize,
    rows: usize,
    workers: usize,
    rows_left: usize,
    bytes_left: usize,
}

impl Limits {
    /// The bounds of a commit that `tenants` tenants with `workers` workers in all wait for. In `company` of quiet
    /// tenants, whose messages may come while it is under way, a run is shorter and so is their wait.
    pub(crate) fn allowance(&self, tenants: usize, workers: usize, company: bool) -> Allowance {
        let run_rows = match company {
            true => (self.run_rows / COMPANY_RUNS).max(1),
            false => self.run_rows,
        };
        // Four full runs are a commit of one tenant; it grows with the tenants, since many small portions cost less
        // to wait for together.
        let rows = tenants
            .saturating_mul(self.run_rows)
            .clamp(self.rows, self.rows_spread.max(self.rows));
        Allowance {
            run_rows,
            rows,
            workers: workers.max(1),
            rows_left: rows,
            bytes_left: self.bytes,
        }
    }
}

impl Allowance {
    /// Whether nothing more fits.
    pub(crate) fn spent(&self) -> bool {
        self.rows_left == 0 || self.bytes_left == 0
    }

    /// How many rows a tenant with so many workers may add.
    pub(crate) fn rows(&self, workers: usize) -> usize {
        self.share(workers).min(self.rows_left)
    }

    /// How many of its workers so many rows keep busy.
    pub(crate) fn runs(&self, workers: usize, rows: usize) -> usize {
        let run_rows = (self.share(workers) / workers.max(1)).max(1);
        rows.div_ceil(run_rows).min(workers)
    }

    /// Takes one row of so many bytes; the last may exceed what is left. Answers whether another one fits.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        self.rows_left = self.rows_left.saturating_sub(1);
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        !self.spent()
    }

    fn share(&self, workers: usize) -> usize {
        let most = self.run_rows.saturating_mul(workers).max(1);
        (self.rows.saturating_mul(workers) / self.workers).clamp(1, most)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits {
        run_rows: 250,
        rows: 1_000,
        rows_spread: 4_000,
        bytes: 1 << 20,
        tenants: 250,
    };

    #[test]
    fn a_lone_tenants_workers_are_its_rows() {
        assert_eq!(LIMITS.allowance(1, 1, false).rows(1), 250);
        assert_eq!(LIMITS.allowance(1, 3, false).rows(3), 750);
        assert_eq!(LIMITS.allowance(1, 16, false).rows(16), 1_000);
    }

    #[test]
    fn in_company_a_run_is_shorter_and_workers_are_felt_all_the_same() {
        assert_eq!(LIMITS.allowance(1, 1, true).rows(1), 31);
        assert_eq!(LIMITS.allowance(1, 3, true).rows(3), 93);
        assert_eq!(LIMITS.allowance(1, 16, true).rows(16), 496);
    }

    #[test]
    fn neighbours_share_a_commit_by_their_workers() {
        let allowance = LIMITS.allowance(2, 10, false);
        assert_eq!((allowance.rows(1), allowance.rows(9)), (100, 900));
        assert_eq!((allowance.runs(1, 100), allowance.runs(9, 101)), (1, 2));
    }

    #[test]
    fn bytes_end_a_commit_after_the_row_that_exceeds_them() {
        let mut allowance = LIMITS.allowance(1, 1, false);
        assert!(allowance.take(1 << 19));
        assert!(!allowance.take(1 << 20) && allowance.spent());
    }

    #[test]
    fn a_commit_of_many_tenants_with_few_rows_each_is_thin() {
        assert!(thin(170, 100) && thin(600, 250));
        assert!(!thin(50, 50) && !thin(3_000, 250) && !thin(1_000, 1));
    }

    proptest! {
        #[test]
        fn every_tenant_gets_something_and_no_bound_is_exceeded(tenants in 1_usize..300, each in 1_usize..=256, company: bool) {
            let mut allowance = LIMITS.allowance(tenants, tenants * each, company);
            let mut taken = 0;
            for _ in 0..tenants.min(LIMITS.tenants) {
                let rows = allowance.rows(each);
                prop_assert!(rows >= 1);
                for _ in 0..rows {
                    allowance.take(1);
                }
                taken += rows;
            }
            prop_assert!(taken <= LIMITS.rows_spread);
        }
    }
}
