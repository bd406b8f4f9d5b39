//! What the control plane has said this daemon is to run. Pure.
//!
//! On a new stream the server sends the difference to what the daemon says it runs, removals included, so nothing is
//! stopped that is not withdrawn. When the fleet's epoch changes, revisions mean nothing any more and the server sends
//! everything: what a finished snapshot of a new epoch does not name is stopped.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
};

use common::id::TenantId;
use proto::v1;

use crate::lane::Wanted;

/// The most workers of one lane.
const WORKERS_MAX: u32 = 256;

/// What follows from a response.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Change {
    /// Run a lane, or run it otherwise.
    Run(TenantId, Wanted),
    /// Stop a lane.
    Stop {
        /// The tenant.
        tenant: TenantId,
        /// The withdrawal's revision.
        revision: i64,
    },
}

/// What the daemon is to run.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    epoch: String,
    /// Each lane's revision.
    lanes: BTreeMap<TenantId, i64>,
    /// What the snapshot of a new epoch has named so far, while it is under way.
    named: Option<BTreeSet<TenantId>>,
}

impl Ledger {
    /// The epoch that the revisions belong to; empty when nothing runs.
    pub(super) fn epoch(&self) -> &str {
        if self.lanes.is_empty() { "" } else { &self.epoch }
    }

    /// What runs, for the first request of a stream.
    pub(super) fn running(&self) -> Vec<v1::RunningLane> {
        let lanes = self.lanes.iter();
        lanes
            .map(|(tenant, revision)| v1::RunningLane {
                tenant_id: tenant.to_string(),
                revision: *revision,
            })
            .collect()
    }

    /// Takes a response: what follows from it, and what of it could not be taken.
    pub(super) fn take(&mut self, response: &v1::WatchResponse) -> (Vec<Change>, Vec<v1::AssignmentError>) {
        let (mut changes, mut errors) = (Vec::new(), Vec::new());
        if response.epoch != self.epoch {
            self.epoch.clone_from(&response.epoch);
            self.named = Some(BTreeSet::new());
            for revision in self.lanes.values_mut() {
                *revision = i64::MIN;
            }
        }
        for assignment in &response.assignments {
            match self.assign(assignment) {
                Ok(change) => changes.extend(change),
                Err(message) => errors.push(v1::AssignmentError {
                    tenant_id: assignment.tenant_id.clone(),
                    revision: assignment.revision,
                    message,
                }),
            }
        }
        for withdrawal in &response.withdrawals {
            match withdrawal.tenant_id.parse::<TenantId>() {
                Ok(tenant) => changes.extend(self.withdraw(tenant, withdrawal.revision)),
                Err(error) => errors.push(v1::AssignmentError {
                    tenant_id: withdrawal.tenant_id.clone(),
                    revision: withdrawal.revision,
                    message: format!("tenant_id: {error}"),
                }),
            }
        }
        if response.snapshot_complete
            && let Some(named) = self.named.take()
        {
            let unnamed: Vec<_> = self
                .lanes
                .keys()
                .filter(|tenant| !named.contains(tenant))
                .copied()
                .collect();
            for tenant in unnamed {
                self.lanes.remove(&tenant);
                changes.push(Change::Stop {
                    tenant,
                    revision: response.revision,
                });
            }
        }
        (changes, errors)
    }

    fn assign(&mut self, assignment: &v1::Assignment) -> Result<Option<Change>, String> {
        let tenant: TenantId = assignment
            .tenant_id
            .parse()
            .map_err(|error| format!("tenant_id: {error}"))?;
        // A refused assignment is named, too: its lane keeps its last good state.
        if let Some(named) = &mut self.named {
            named.insert(tenant);
        }
        let (workers, revision) = (assignment.workers, assignment.revision);
        if !(1..=WORKERS_MAX).contains(&workers) {
            return Err(format!("workers: {workers} must be between 1 and {WORKERS_MAX}"));
        }
        let store_per_second = assignment.store_per_second;
        if let Some(rate) = store_per_second
            && !(rate > 0.0 && rate.is_finite())
        {
            return Err(format!("store_per_second: {rate} must be more than 0"));
        }
        if self.lanes.get(&tenant).is_some_and(|known| *known > revision) {
            return Ok(None);
        }
        self.lanes.insert(tenant, revision);
        let wanted = Wanted {
            workers,
            revision,
            store_per_second,
            message_bytes: assignment.message_bytes.and_then(NonZeroU32::new),
        };
        Ok(Some(Change::Run(tenant, wanted)))
    }

    fn withdraw(&mut self, tenant: TenantId, revision: i64) -> Option<Change> {
        if self.lanes.get(&tenant).is_some_and(|known| *known > revision) {
            return None;
        }
        // Even what does not run: the control plane waits to hear that it has stopped.
        self.lanes.remove(&tenant);
        Some(Change::Stop { tenant, revision })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn tenant(n: u128) -> TenantId {
        TenantId(Uuid::from_u128(n))
    }

    fn response(
        epoch: &str,
        assignments: &[(u128, u32, i64)],
        withdrawals: &[(u128, i64)],
    ) -> v1::WatchResponse {
        v1::WatchResponse {
            nonce: "1".into(),
            epoch: epoch.into(),
            revision: 99,
            assignments: assignments
                .iter()
                .map(|&(n, workers, revision)| v1::Assignment {
                    tenant_id: tenant(n).to_string(),
                    workers,
                    revision,
                    store_per_second: None,
                    message_bytes: None,
                })
                .collect(),
            withdrawals: withdrawals
                .iter()
                .map(|&(n, revision)| v1::Withdrawal {
                    tenant_id: tenant(n).to_string(),
                    revision,
                })
                .collect(),
            snapshot_complete: false,
        }
    }

    fn run(n: u128, workers: u32, revision: i64) -> Change {
        let wanted = Wanted {
            workers,
            revision,
            store_per_second: None,
            message_bytes: None,
        };
        Change::Run(tenant(n), wanted)
    }

    #[test]
    fn assignments_and_withdrawals_are_taken_and_known_on_the_next_stream() {
        let mut ledger = Ledger::default();
        assert_eq!((ledger.epoch(), ledger.running().len()), ("", 0));
        let (changes, errors) = ledger.take(&response("e", &[(1, 3, 10), (2, 1, 11)], &[]));
        assert_eq!(changes, [run(1, 3, 10), run(2, 1, 11)]);
        assert!(errors.is_empty());
        let (changes, _) = ledger.take(&response("e", &[(2, 5, 13)], &[(1, 12)]));
        assert_eq!(
            changes,
            [
                run(2, 5, 13),
                Change::Stop {
                    tenant: tenant(1),
                    revision: 12
                }
            ]
        );
        assert_eq!((ledger.epoch(), ledger.running().len()), ("e", 1));
    }

    #[test]
    fn a_new_stream_stops_nothing_that_is_not_withdrawn() {
        let mut ledger = Ledger::default();
        let mut first = response("e", &[(1, 3, 10)], &[]);
        first.snapshot_complete = true;
        ledger.take(&first);
        let mut nothing_new = response("e", &[], &[]);
        nothing_new.snapshot_complete = true;
        assert!(ledger.take(&nothing_new).0.is_empty());
    }

    #[test]
    fn a_new_epochs_snapshot_stops_what_it_does_not_name_and_not_before_its_end() {
        let mut ledger = Ledger::default();
        ledger.take(&response("old", &[(1, 3, 10), (2, 3, 11)], &[]));
        // Revisions start over.
        let (changes, _) = ledger.take(&response("new", &[(2, 4, 1)], &[]));
        assert_eq!(changes, [run(2, 4, 1)]);
        let mut end = response("new", &[], &[]);
        end.snapshot_complete = true;
        let (changes, _) = ledger.take(&end);
        assert_eq!(
            changes,
            [Change::Stop {
                tenant: tenant(1),
                revision: 99
            }]
        );
        assert!(ledger.take(&end).0.is_empty());
    }

    #[test]
    fn one_bad_assignment_blocks_no_other_and_keeps_the_last_good_state() {
        let mut ledger = Ledger::default();
        ledger.take(&response("e", &[(1, 3, 10)], &[]));
        let mut bad = response("e", &[(1, 0, 11), (2, 1, 12)], &[]);
        bad.assignments[1].tenant_id = "x".into();
        bad.assignments
            .extend(response("e", &[(3, 1, 13)], &[]).assignments);
        let (changes, errors) = ledger.take(&bad);
        assert_eq!(changes, [run(3, 1, 13)]);
        assert_eq!(
            errors.iter().map(|error| error.revision).collect::<Vec<_>>(),
            [11, 12]
        );
        assert_eq!(ledger.running()[0].revision, 10);
    }

    #[test]
    fn a_limit_is_taken_as_it_is_and_no_other_number() {
        let mut ledger = Ledger::default();
        let mut limited = response("e", &[(1, 3, 10)], &[]);
        limited.assignments[0].store_per_second = Some(0.5);
        let (changes, _) = ledger.take(&limited);
        assert!(matches!(
            changes[..],
            [Change::Run(
                _,
                Wanted {
                    store_per_second: Some(0.5),
                    ..
                }
            )]
        ));
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            limited.assignments[0].store_per_second = Some(bad);
            let (changes, errors) = ledger.take(&limited);
            assert_eq!((changes.len(), errors.len()), (0, 1), "{bad}");
        }
    }

    #[test]
    fn what_is_older_than_what_runs_is_passed_over() {
        let mut ledger = Ledger::default();
        ledger.take(&response("e", &[(1, 3, 10)], &[]));
        assert!(ledger.take(&response("e", &[(1, 9, 9)], &[(1, 8)])).0.is_empty());
    }
}
