//! What a placement comes to in sum, which is all that has to be known of everybody else to place a few.

use std::collections::BTreeMap;

use common::id::TenantId;
use serde::{Deserialize, Serialize};

use super::{Daemon, Demand, Loads, Placement, Share, Sizes, pieces_count, place, sizes};

/// The sums of a placement that [`solve`](super::solve) would leave as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::fleet) struct Sums {
    /// Load and capacity by daemon.
    loads: BTreeMap<String, (u32, u32)>,
    sizes: Sizes,
    /// By which the tenants were cut into pieces.
    fair: u32,
}

/// A tenant that is to have another number of workers; none: it is not, or no longer, to run.
#[derive(Clone, Copy, Debug)]
pub(in crate::fleet) struct Change {
    pub(in crate::fleet) tenant: TenantId,
    /// What the placement before was made for.
    pub(in crate::fleet) before: u32,
    pub(in crate::fleet) workers: u32,
}

impl Sums {
    /// Of everybody's placement, which is settled.
    pub(in crate::fleet) fn of(daemons: &[Daemon], demands: &[Demand], settled: &Placement) -> Self {
        let mut loads: BTreeMap<_, _> = daemons
            .iter()
            .map(|daemon| (daemon.id.clone(), (0, daemon.capacity)))
            .collect();
        for ((_, daemon), workers) in settled {
            if let Some((load, _)) = loads.get_mut(daemon) {
                *load += workers;
            }
        }
        let sizes = sizes(demands);
        Self {
            loads,
            fair: Share::of(daemons.len(), &sizes).fair,
            sizes,
        }
    }

    /// Whether these are the daemons.
    pub(in crate::fleet) fn are_of(&self, daemons: &[Daemon]) -> bool {
        let capacity = |daemon: &Daemon| self.loads.get(&daemon.id).map(|(_, capacity)| *capacity);
        daemons.len() == self.loads.len()
            && daemons
                .iter()
                .all(|daemon| capacity(daemon) == Some(daemon.capacity))
    }

    /// Places those that have changed, whose lanes now are `current`, and answers what that comes to: it is settled,
    /// too. `None` where others may have to move, or something is not as it is known: then everybody is to be looked at.
    pub(in crate::fleet) fn place(
        &self,
        changes: &[Change],
        current: &Placement,
    ) -> Option<(Placement, Self)> {
        // What has no place is placed as soon as there is room.
        let placed: u64 = self.loads.values().map(|(load, _)| u64::from(*load)).sum();
        if placed != workers(&self.sizes) {
            return None;
        }
        let mut others = self.sizes.clone();
        let mut running: BTreeMap<TenantId, u32> = BTreeMap::new();
        let mut loads = self.loads.clone();
        for ((tenant, daemon), workers) in current {
            *running.entry(*tenant).or_default() += workers;
            let (load, _) = loads.get_mut(daemon)?;
            *load = load.checked_sub(*workers)?;
        }
        for change in changes {
            if running.remove(&change.tenant).unwrap_or_default() != change.before {
                return None;
            }
            if change.before > 0 {
                let count = others.get_mut(&change.before)?;
                *count -= 1;
                if *count == 0 {
                    others.remove(&change.before);
                }
            }
        }
        if !running.is_empty() {
            return None;
        }

        let demands = changes.iter().filter(|change| change.workers > 0);
        let demands: Vec<_> = demands
            .map(|change| Demand {
                tenant: change.tenant,
                workers: change.workers,
            })
            .collect();
        let mut all = others.clone();
        for demand in &demands {
            *all.entry(demand.workers).or_default() += 1;
        }
        let Share { fair, bound } = Share::of(loads.len(), &all);
        let cut_anew = |&size: &u32| pieces_count(size, fair) != pieces_count(size, self.fair);
        if others.keys().any(cut_anew) {
            return None;
        }
        let before = Loads {
            bound,
            daemons: loads.clone(),
        };
        let (placement, highest) = place(&demands, current, fair, before);
        for ((_, daemon), workers) in &placement {
            loads.get_mut(daemon)?.0 += workers;
        }
        let placed: u64 = loads.values().map(|(load, _)| u64::from(*load)).sum();
        let sums = Self {
            loads,
            sizes: all,
            fair,
        };
        (highest <= bound && placed == workers(&sums.sizes)).then_some((placement, sums))
    }
}

/// Of all tenants.
fn workers(sizes: &Sizes) -> u64 {
    sizes
        .iter()
        .map(|(size, count)| u64::from(*size) * *count as u64)
        .sum()
}
