//! Rounds of assignment. Any control plane may run one; the lock lets one at a time.
//!
//! A round costs what has changed. Which tenants have is in their rows: `uncounted` are those for which the last round
//! counted on another number of workers than they are to have now. What everybody adds up to is in the fleet's row, and
//! holds for the revision and the daemons that it was written for. Everybody is looked at where it does not hold, where
//! some cannot be placed alone, and once in a while all the same.

mod store;

use std::{collections::BTreeSet, time::Duration};

use common::id::TenantId;
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    Changes, Connections,
    changes::{Topic, notify},
    connections::within,
    solver::{Placement, Sums, solve},
};

/// How soon to try again while another control plane's round runs: it may have read before our change.
const BUSY_RETRY: Duration = Duration::from_millis(20);
/// How long a round may take. One that looks at ten thousand tenants takes some hundred milliseconds.
const ROUND_LIMIT: Duration = Duration::from_secs(20);
/// How often everybody is looked at, whatever is known: rows may have been changed by hand.
const EVERYBODY_EVERY: Duration = Duration::from_secs(60);

/// What a round came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// Everything is as it should be now.
    Done,
    /// Another control plane's round is running.
    Busy,
}

/// Runs rounds until `stop`: whenever demand changes, which it does every second at least.
pub(crate) async fn run(connections: Connections, changes: Changes, stop: CancellationToken) {
    let _ = stop
        .run_until_cancelled(run_on(&connections.rounds, &changes))
        .await;
}

async fn run_on(pool: &PgPool, changes: &Changes) {
    let mut demand = changes.subscribe(Topic::Demand);
    let mut failing = false;
    loop {
        demand.mark_unchanged();
        match within(pool, ROUND_LIMIT, round).await {
            Ok(Round::Busy) => {
                tokio::time::sleep(BUSY_RETRY).await;
                continue;
            }
            Ok(Round::Done) => failing = false,
            Err(error) => {
                if failing {
                    debug!(%error, "still cannot assign lanes");
                } else {
                    warn!(%error, "cannot assign lanes; retrying");
                }
                failing = true;
            }
        }
        // The sender lives as long as `changes`, which is here.
        let _ = demand.changed().await;
    }
}

async fn round(connection: &mut PgConnection) -> Result<Round, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    if !store::lock(&mut transaction).await? {
        return Ok(Round::Busy);
    }
    let seen = store::look(&mut transaction, EVERYBODY_EVERY).await?;
    let mut changes = store::uncounted(&mut transaction).await?;
    let alone = match &seen.sums {
        Some(_) if changes.is_empty() => {
            transaction.rollback().await?;
            return Ok(Round::Done);
        }
        Some(sums) => {
            let current = store::lanes_of(&mut transaction, &changes).await?;
            let placed = sums.place(&changes, &current);
            placed.map(|(wanted, sums)| (current, wanted, Some(sums)))
        }
        None => None,
    };
    let everybody = alone.is_none();
    let (current, wanted, sums) = match alone {
        Some(alone) => alone,
        None => {
            let current = store::lanes(&mut transaction).await?;
            let (demands, uncounted) = store::demands(&mut transaction).await?;
            changes = uncounted;
            let solved = solve(&seen.daemons, &demands, &current);
            let sums = solved
                .settled
                .then(|| Sums::of(&seen.daemons, &demands, &solved.placement));
            (current, solved.placement, sums)
        }
    };
    let difference = Difference::between(&current, &wanted);
    let differs = !difference.is_empty() || seen.stale;
    let revision = store::sum_up(&mut transaction, sums.as_ref(), differs, everybody).await?;
    if differs {
        store::write(&mut transaction, revision, &difference, seen.stale).await?;
        notify(&mut *transaction, Topic::Assignments).await?;
        info!(
            placed = difference.placed.len(),
            withdrawn = difference.withdrawn.len(),
            "assigned lanes"
        );
    }
    store::count_on(&mut transaction, &changes).await?;
    transaction.commit().await?;
    Ok(Round::Done)
}

/// What a round changes.
#[derive(Debug, Default)]
struct Difference {
    /// Lanes to run, or to run otherwise.
    placed: Vec<(TenantId, String, i32)>,
    /// Lanes to stop.
    withdrawn: Vec<(TenantId, String)>,
}

impl Difference {
    /// A tenant's lanes share what it may store by their workers: where one of them changes, the others are named, too.
    fn between(current: &Placement, wanted: &Placement) -> Self {
        let changed = wanted
            .iter()
            .filter(|(lane, workers)| current.get(lane) != Some(workers));
        let withdrawn: Vec<_> = current.keys().filter(|lane| !wanted.contains_key(lane)).collect();
        let lanes = changed.map(|(lane, _)| lane).chain(withdrawn.iter().copied());
        let tenants: BTreeSet<_> = lanes.map(|(tenant, _)| *tenant).collect();
        let placed = wanted.iter().filter(|((tenant, _), _)| tenants.contains(tenant));
        Self {
            placed: placed
                .map(|((tenant, daemon), &workers)| (*tenant, daemon.clone(), workers as i32))
                .collect(),
            withdrawn: withdrawn.into_iter().cloned().collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.placed.is_empty() && self.withdrawn.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn placement(lanes: &[(u128, &str, u32)]) -> Placement {
        let lane = |&(tenant, daemon, workers): &(u128, &str, u32)| {
            ((TenantId(Uuid::from_u128(tenant)), daemon.to_owned()), workers)
        };
        lanes.iter().map(lane).collect()
    }

    #[test]
    fn a_tenants_lanes_are_all_named_where_one_of_them_changes() {
        let current = placement(&[(1, "a", 8), (1, "b", 8), (1, "c", 8), (2, "a", 3)]);
        assert!(Difference::between(&current, &current).is_empty());
        let wanted = placement(&[(1, "a", 8), (1, "b", 8), (2, "a", 3), (3, "b", 1)]);
        let difference = Difference::between(&current, &wanted);
        let placed = difference.placed.iter();
        let placed: Vec<_> = placed
            .map(|(tenant, daemon, workers)| (tenant.0.as_u128(), daemon.as_str(), *workers))
            .collect();
        assert_eq!(placed, [(1, "a", 8), (1, "b", 8), (3, "b", 1)]);
        assert_eq!(difference.withdrawn.len(), 1);
    }
}
