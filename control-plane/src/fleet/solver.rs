//! Who runs what: a pure function from what is wanted and what is to what should be.
//!
//! A tenant is cut into pieces: one, or several when it has more workers than a daemon's fair share. Pieces stay
//! where the tenant already runs while that daemon is not above the bound; the rest go, largest first, to the daemon
//! with the least load. So what moves is what a leaving daemon ran, or what a joining one has to be given.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use common::id::TenantId;

/// A daemon that can take lanes.
#[derive(Clone, Debug)]
pub(super) struct Daemon {
    pub(super) id: String,
    /// The most workers it may run.
    pub(super) capacity: u32,
}

/// A tenant whose queue is to be consumed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    pub(super) tenant: TenantId,
    pub(super) workers: u32,
}

/// How many workers each daemon runs for each tenant; no entry is zero.
pub(super) type Placement = BTreeMap<(TenantId, String), u32>;

/// The fewest workers that are worth a second consumer.
const PIECE_WORKERS_MIN: u32 = 8;
/// How far above its fair share a daemon may be before lanes leave it: a tenth, or what cannot be evened out, since a
/// lane moves whole; but for that not above this.
const UNEVEN_WORKERS_MAX: u32 = 8;

/// How often a placement is improved on in one go. Every improvement lowers the highest load, so few are ever needed;
/// what a round does not reach the next one does.
const IMPROVEMENTS_MAX: usize = 16;

/// Places `demands` on `daemons`, changing `current` as little as balance allows. What no daemon has capacity for
/// stays unplaced. Solving again with the answer as `current` changes nothing.
pub(super) fn solve(daemons: &[Daemon], demands: &[Demand], current: &Placement) -> Placement {
    let mut placement = improve(daemons, demands, current);
    for _ in 0..IMPROVEMENTS_MAX {
        let next = improve(daemons, demands, &placement);
        if next == placement {
            break;
        }
        placement = next;
    }
    check(daemons, demands, &placement);
    placement
}

/// One step towards balance: within the bound if that can be found, else not above what was found instead, so that
/// a placement that is no worse stays as it is.
fn improve(daemons: &[Daemon], demands: &[Demand], current: &Placement) -> Placement {
    let total: u32 = demands.iter().map(|demand| demand.workers).sum();
    let fair = total.div_ceil(daemons.len().max(1) as u32);
    let largest = demands
        .iter()
        .filter_map(|demand| pieces(demand.workers, fair).pop())
        .max();
    let uneven = largest
        .unwrap_or_default()
        .saturating_sub(1)
        .min(UNEVEN_WORKERS_MAX);
    let bound = fair + (fair / 10).max(uneven);
    let (moving_most, highest) = place(daemons, demands, current, fair, bound);
    if highest <= bound {
        return moving_most;
    }
    let (moving_less, no_higher) = place(daemons, demands, current, fair, highest);
    if no_higher <= highest {
        moving_less
    } else {
        moving_most
    }
}

/// Keeps what stays within the bound where it is, places the rest, and answers the highest load as well.
fn place(
    daemons: &[Daemon],
    demands: &[Demand],
    current: &Placement,
    fair: u32,
    bound: u32,
) -> (Placement, u32) {
    let mut ordered = demands.to_vec();
    ordered.sort_by_key(|demand| (Reverse(demand.workers), demand.tenant));
    let mut loads = Loads::new(daemons, bound);
    let mut placement = Placement::new();
    let mut moving = Vec::new();
    for demand in ordered {
        let mut pieces = pieces(demand.workers, fair);
        for daemon in homes(demand.tenant, current) {
            let Some(&piece) = pieces.last() else { break };
            if loads.take_within_bound(daemon, piece) {
                placement.insert((demand.tenant, daemon.to_owned()), piece);
                pieces.pop();
            }
        }
        moving.extend(pieces.into_iter().map(|piece| (demand.tenant, piece)));
    }
    moving.sort_by_key(|&(tenant, piece)| (Reverse(piece), tenant));
    for (tenant, piece) in moving {
        let hosts = homes(tenant, &placement).into_iter().map(str::to_owned).collect();
        if let Some(daemon) = loads.take_least_loaded(piece, &hosts) {
            placement.insert((tenant, daemon), piece);
        }
    }
    (placement, loads.highest())
}

/// Cuts a tenant's workers into as few pieces as fit a fair share, of sizes as even as can be, the largest last.
fn pieces(workers: u32, fair: u32) -> Vec<u32> {
    let count = workers.div_ceil(fair.max(PIECE_WORKERS_MIN)).max(1);
    (0..count)
        .map(|index| workers / count + u32::from(index >= count - workers % count))
        .collect()
}

/// The daemons that run a tenant, those with most workers first.
fn homes(tenant: TenantId, placement: &Placement) -> Vec<&str> {
    let from = placement.range((tenant, String::new())..);
    let mut homes: Vec<_> = from.take_while(|((other, _), _)| *other == tenant).collect();
    homes.sort_by_key(|((_, daemon), workers)| (Reverse(**workers), daemon));
    homes
        .into_iter()
        .map(|((_, daemon), _)| daemon.as_str())
        .collect()
}

/// How many workers each daemon has been given so far.
struct Loads {
    bound: u32,
    /// Load and capacity by daemon.
    daemons: BTreeMap<String, (u32, u32)>,
}

impl Loads {
    fn new(daemons: &[Daemon], bound: u32) -> Self {
        Self {
            bound,
            daemons: daemons
                .iter()
                .map(|daemon| (daemon.id.clone(), (0, daemon.capacity)))
                .collect(),
        }
    }

    fn highest(&self) -> u32 {
        self.daemons
            .values()
            .map(|(load, _)| *load)
            .max()
            .unwrap_or_default()
    }

    /// Gives a piece to a daemon that is alive and stays within the bound.
    fn take_within_bound(&mut self, daemon: &str, piece: u32) -> bool {
        match self.daemons.get_mut(daemon) {
            Some((load, capacity)) if *load + piece <= self.bound.min(*capacity) => {
                *load += piece;
                true
            }
            _ => false,
        }
    }

    /// Gives a piece to the daemon with the least load that has the capacity and is not in `except`.
    fn take_least_loaded(&mut self, piece: u32, except: &BTreeSet<String>) -> Option<String> {
        let fits = |(daemon, (load, capacity)): &(&String, &mut (u32, u32))| {
            !except.contains(*daemon) && *load + piece <= *capacity
        };
        let (daemon, (load, _)) = self
            .daemons
            .iter_mut()
            .filter(fits)
            .min_by_key(|(_, (load, _))| *load)?;
        *load += piece;
        Some(daemon.clone())
    }
}

/// What must hold of every placement, whatever it was made from.
fn check(daemons: &[Daemon], demands: &[Demand], placement: &Placement) {
    let mut by_tenant: BTreeMap<TenantId, u32> = BTreeMap::new();
    let mut by_daemon: BTreeMap<&str, u32> = BTreeMap::new();
    for ((tenant, daemon), &workers) in placement {
        assert!(workers > 0, "an empty lane was placed");
        *by_tenant.entry(*tenant).or_default() += workers;
        *by_daemon.entry(daemon).or_default() += workers;
    }
    for demand in demands {
        let placed = by_tenant.remove(&demand.tenant).unwrap_or_default();
        assert!(
            placed <= demand.workers,
            "a tenant was given more workers than it has"
        );
    }
    assert!(by_tenant.is_empty(), "a tenant was placed that nobody asked for");
    for daemon in daemons {
        let load = by_daemon.remove(daemon.id.as_str()).unwrap_or_default();
        assert!(load <= daemon.capacity, "a daemon was given more than it can run");
    }
    assert!(
        by_daemon.is_empty(),
        "a lane was placed on a daemon that is not there"
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn daemons(count: usize) -> Vec<Daemon> {
        (0..count)
            .map(|index| Daemon {
                id: format!("d{index}"),
                capacity: 10_000,
            })
            .collect()
    }

    fn demands(workers: &[u32]) -> Vec<Demand> {
        let tenant = |index: usize| TenantId(Uuid::from_u128(index as u128 + 1));
        workers
            .iter()
            .enumerate()
            .map(|(index, &workers)| Demand {
                tenant: tenant(index),
                workers,
            })
            .collect()
    }

    fn moved(before: &Placement, after: &Placement) -> usize {
        after.keys().filter(|lane| !before.contains_key(*lane)).count()
    }

    #[test]
    fn without_daemons_nothing_is_placed() {
        assert!(solve(&[], &demands(&[3]), &Placement::new()).is_empty());
    }

    #[test]
    fn a_narrow_tenant_has_one_consumer() {
        let placement = solve(&daemons(3), &demands(&[3, 3, 3]), &Placement::new());
        assert_eq!(placement.len(), 3);
        assert!(placement.values().all(|&workers| workers == 3));
    }

    #[test]
    fn a_wide_tenant_is_spread_and_its_workers_sum_to_what_was_set() {
        let placement = solve(&daemons(3), &demands(&[256]), &Placement::new());
        assert_eq!(placement.values().sum::<u32>(), 256);
        assert_eq!(placement.len(), 3);
    }

    #[test]
    fn a_change_of_workers_moves_nothing() {
        let before = solve(&daemons(1), &demands(&[3, 1]), &Placement::new());
        let after = solve(&daemons(1), &demands(&[3, 8]), &before);
        assert_eq!(moved(&before, &after), 0);
        assert_eq!(after.values().sum::<u32>(), 11);
    }

    #[test]
    fn what_fits_nowhere_stays_unplaced() {
        let small = [Daemon {
            id: "d".into(),
            capacity: 4,
        }];
        assert_eq!(solve(&small, &demands(&[3, 3]), &Placement::new()).len(), 1);
    }

    #[test]
    fn a_leaving_daemon_moves_only_what_it_ran() {
        let tenants = demands(&[3; 99]);
        let before = solve(&daemons(3), &tenants, &Placement::new());
        let after = solve(&daemons(2), &tenants, &before);
        assert_eq!(
            moved(&before, &after),
            before.keys().filter(|(_, daemon)| daemon == "d2").count()
        );
    }

    #[test]
    fn a_joining_daemon_is_given_its_part_however_small_the_fleet() {
        for (tenants, part) in [(2, 1), (3, 1), (4, 2), (5, 2), (60, 27)] {
            let tenants = demands(&vec![3; tenants]);
            let before = solve(&daemons(1), &tenants, &Placement::new());
            let after = solve(&daemons(2), &tenants, &before);
            assert_eq!(moved(&before, &after), part, "{} tenants", tenants.len());
        }
    }

    #[test]
    fn a_load_that_cannot_be_even_does_not_go_back_and_forth() {
        let (daemons, tenants) = (daemons(5), demands(&[175, 165, 224, 83, 88]));
        let placement = solve(&daemons, &tenants, &Placement::new());
        assert_eq!(solve(&daemons, &tenants, &placement), placement);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn every_worker_is_placed_and_solving_again_changes_nothing(
            count in 1_usize..6,
            workers in proptest::collection::vec(1_u32..=256, 0..40),
        ) {
            let (daemons, demands) = (daemons(count), demands(&workers));
            let placement = solve(&daemons, &demands, &Placement::new());
            prop_assert_eq!(placement.values().sum::<u32>(), workers.iter().sum::<u32>());
            prop_assert_eq!(&solve(&daemons, &demands, &placement), &placement);
        }

        /// `solve` checks by itself that nobody is given more than there is room for, or than was asked for.
        #[test]
        fn with_little_room_what_is_placed_fits_and_what_is_not_fits_nowhere(
            capacities in proptest::collection::vec(1_u32..=300, 1..6),
            workers in proptest::collection::vec(1_u32..=256, 0..40),
        ) {
            let daemons: Vec<_> = (0..).zip(&capacities).map(|(index, &capacity): (usize, _)| Daemon {
                id: format!("d{index}"),
                capacity,
            }).collect();
            let demands = demands(&workers);
            let placement = solve(&daemons, &demands, &Placement::new());
            let room = |daemon: &Daemon| {
                let load: u32 = placement.iter().filter(|((_, id), _)| *id == daemon.id).map(|(_, load)| load).sum();
                daemon.capacity - load
            };
            let smallest_left = demands
                .iter()
                .filter(|demand| !placement.keys().any(|(tenant, _)| *tenant == demand.tenant))
                .flat_map(|demand| pieces(demand.workers, workers.iter().sum::<u32>().div_ceil(daemons.len() as u32)))
                .min();
            for daemon in &daemons {
                prop_assert!(smallest_left.is_none_or(|piece| room(daemon) < piece));
            }
        }

        #[test]
        fn a_fleet_that_changes_settles_at_once(
            before in 1_usize..6,
            after in 1_usize..6,
            workers in proptest::collection::vec(1_u32..=256, 0..40),
        ) {
            let tenants = demands(&workers);
            let old = solve(&daemons(before), &tenants, &Placement::new());
            let new = solve(&daemons(after), &tenants, &old);
            prop_assert_eq!(new.values().sum::<u32>(), workers.iter().sum::<u32>());
            prop_assert_eq!(&solve(&daemons(after), &tenants, &new), &new);
        }
    }
}
