use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn place(daemons: &[Daemon], demands: &[Demand], current: &Placement) -> Placement {
    solve(daemons, demands, current).placement
}

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

fn tenant(n: u128) -> TenantId {
    TenantId(Uuid::from_u128(n))
}

fn listed(wanted: &BTreeMap<TenantId, u32>) -> Vec<Demand> {
    let demand = |(&tenant, &workers)| Demand { tenant, workers };
    wanted.iter().map(demand).collect()
}

fn moved(before: &Placement, after: &Placement) -> usize {
    after.keys().filter(|lane| !before.contains_key(*lane)).count()
}

#[test]
fn without_daemons_nothing_is_placed() {
    assert!(place(&[], &demands(&[3]), &Placement::new()).is_empty());
}

#[test]
fn a_narrow_tenant_has_one_consumer() {
    let placement = place(&daemons(3), &demands(&[3, 3, 3]), &Placement::new());
    assert_eq!(placement.len(), 3);
    assert!(placement.values().all(|&workers| workers == 3));
}

#[test]
fn a_wide_tenant_is_spread_and_its_workers_sum_to_what_was_set() {
    let placement = place(&daemons(3), &demands(&[256]), &Placement::new());
    assert_eq!(placement.values().sum::<u32>(), 256);
    assert_eq!(placement.len(), 3);
}

#[test]
fn a_change_of_workers_moves_nothing() {
    let before = place(&daemons(1), &demands(&[3, 1]), &Placement::new());
    let after = place(&daemons(1), &demands(&[3, 8]), &before);
    assert_eq!(moved(&before, &after), 0);
    assert_eq!(after.values().sum::<u32>(), 11);
}

#[test]
fn what_fits_nowhere_stays_unplaced() {
    let small = [Daemon {
        id: "d".into(),
        capacity: 4,
    }];
    assert_eq!(place(&small, &demands(&[3, 3]), &Placement::new()).len(), 1);
}

#[test]
fn a_leaving_daemon_moves_only_what_it_ran() {
    let tenants = demands(&[3; 99]);
    let before = place(&daemons(3), &tenants, &Placement::new());
    let after = place(&daemons(2), &tenants, &before);
    assert_eq!(
        moved(&before, &after),
        before.keys().filter(|(_, daemon)| daemon == "d2").count()
    );
}

#[test]
fn a_joining_daemon_is_given_its_part_however_small_the_fleet() {
    for (tenants, part) in [(2, 1), (3, 1), (4, 2), (5, 2), (60, 27)] {
        let tenants = demands(&vec![3; tenants]);
        let before = place(&daemons(1), &tenants, &Placement::new());
        let after = place(&daemons(2), &tenants, &before);
        assert_eq!(moved(&before, &after), part, "{} tenants", tenants.len());
    }
}

#[test]
fn a_load_that_cannot_be_even_does_not_go_back_and_forth() {
    let (daemons, tenants) = (daemons(5), demands(&[175, 165, 224, 83, 88]));
    let placement = place(&daemons, &tenants, &Placement::new());
    assert_eq!(place(&daemons, &tenants, &placement), placement);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_worker_is_placed_and_solving_again_changes_nothing(
        count in 1_usize..6,
        workers in proptest::collection::vec(1_u32..=256, 0..40),
    ) {
        let (daemons, demands) = (daemons(count), demands(&workers));
        let placement = place(&daemons, &demands, &Placement::new());
        prop_assert_eq!(placement.values().sum::<u32>(), workers.iter().sum::<u32>());
        prop_assert_eq!(&place(&daemons, &demands, &placement), &placement);
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
        let placement = place(&daemons, &demands, &Placement::new());
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
        let old = place(&daemons(before), &tenants, &Placement::new());
        let new = place(&daemons(after), &tenants, &old);
        prop_assert_eq!(new.values().sum::<u32>(), workers.iter().sum::<u32>());
        prop_assert_eq!(&place(&daemons(after), &tenants, &new), &new);
    }
}

proptest! {
    // Each is a whole history.
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Tenants come, go and change a few at a time: whenever those can be placed alone, everybody is placed and
    /// solving everybody would leave it so. Nobody else has moved, since nobody else was looked at.
    #[test]
    fn what_is_placed_alone_is_as_if_everybody_had_been_solved(
        count in 1_usize..6,
        capacity in prop_oneof![Just(10_000_u32), 100_u32..2_000],
        start in proptest::collection::vec(prop_oneof![Just(3_u32), 0_u32..=12, 0_u32..=256], 0..60),
        rounds in proptest::collection::vec(
            proptest::collection::vec((0_usize..80, prop_oneof![Just(0_u32), Just(3), 0_u32..=12, 0_u32..=256]), 1..4),
            1..12,
        ),
    ) {
        let daemons: Vec<_> = daemons(count)
            .into_iter()
            .map(|daemon| Daemon { capacity, ..daemon })
            .collect();
        let mut wanted: BTreeMap<TenantId, u32> = (0_u128..)
            .map(tenant)
            .zip(start)
            .filter(|(_, workers)| *workers > 0)
            .collect();
        let mut solved = solve(&daemons, &listed(&wanted), &Placement::new());
        for round in rounds {
            let before = wanted.clone();
            let changed: BTreeMap<_, _> = round
                .into_iter()
                .map(|(index, workers)| (tenant(index as u128), workers))
                .collect();
            let changes: Vec<_> = changed
                .iter()
                .map(|(&tenant, &workers)| Change {
                    tenant,
                    before: before.get(&tenant).copied().unwrap_or_default(),
                    workers,
                })
                .collect();
            wanted.extend(&changed);
            wanted.retain(|_, workers| *workers > 0);
            let old = solved.placement;
            let (theirs, others): (Placement, Placement) =
                old.clone().into_iter().partition(|((tenant, _), _)| changed.contains_key(tenant));
            let known = Sums::of(&daemons, &listed(&before), &old);
            let alone = known.place(&changes, &theirs).filter(|_| solved.settled);
            solved = match alone {
                None => solve(&daemons, &listed(&wanted), &old),
                Some((placed, sums)) => {
                    let mut all = others;
                    all.extend(placed);
                    let again = solve(&daemons, &listed(&wanted), &all);
                    prop_assert_eq!(&again.placement, &all);
                    let read = serde_json::from_str::<Sums>(&serde_json::to_string(&sums).unwrap());
                    prop_assert_eq!(read.unwrap(), Sums::of(&daemons, &listed(&wanted), &all));
                    prop_assert_eq!(all.values().sum::<u32>(), wanted.values().sum::<u32>());
                    Solved { placement: all, settled: true }
                }
            };
        }
    }
}

#[test]
fn a_tenant_that_comes_goes_or_changes_is_placed_alone_where_there_are_many() {
    let (daemons, tenants) = (daemons(3), demands(&[3; 300]));
    let all = place(&daemons, &tenants, &Placement::new());
    let sums = Sums::of(&daemons, &tenants, &all);
    let theirs = |id: TenantId| -> Placement {
        let of = |(tenant, _): &(TenantId, String)| *tenant == id;
        all.iter()
            .filter(|(lane, _)| of(lane))
            .map(|(lane, workers)| (lane.clone(), *workers))
            .collect()
    };
    for (id, before, workers) in [(7, 3, 5), (7, 3, 0), (7, 3, 20), (1_000, 0, 3)] {
        let change = Change {
            tenant: tenant(id),
            before,
            workers,
        };
        let (placed, after) = sums.place(&[change], &theirs(change.tenant)).unwrap();
        assert_eq!(placed.len(), usize::from(workers > 0));
        assert_eq!(placed.values().sum::<u32>(), workers);
        if workers == 0 {
            continue;
        }
        // And back.
        let back = Change {
            before: workers,
            workers: before,
            ..change
        };
        assert_eq!(after.place(&[back], &placed).unwrap().1, sums);
    }
}

#[test]
fn where_something_is_otherwise_than_known_everybody_is_looked_at() {
    let (daemons, tenants) = (daemons(2), demands(&[3; 10]));
    let all = place(&daemons, &tenants, &Placement::new());
    let sums = Sums::of(&daemons, &tenants, &all);
    let change = Change {
        tenant: tenants[0].tenant,
        before: 3,
        workers: 4,
    };
    // It has lost its lane, or got one on a daemon that nobody knows.
    assert!(sums.place(&[change], &Placement::new()).is_none());
    let unknown = Placement::from([((change.tenant, "d9".to_owned()), 3)]);
    assert!(sums.place(&[change], &unknown).is_none());
    // Nobody has so many.
    let never = Change { before: 9, ..change };
    assert!(
        sums.place(
            &[never],
            &Placement::from([((change.tenant, "d0".to_owned()), 9)])
        )
        .is_none()
    );
}

#[test]
fn what_moves_others_or_fits_nowhere_is_for_everybody() {
    let tenants = demands(&[3; 4]);
    let change = Change {
        tenant: tenant(1_000),
        before: 0,
        workers: 200,
    };
    // So wide that it is spread over both, and the others' bound is another.
    let two = daemons(2);
    let all = place(&two, &tenants, &Placement::new());
    let wide = Change {
        workers: 100,
        ..change
    };
    let sums = Sums::of(&two, &tenants, &all);
    let (placed, after) = sums.place(&[wide], &Placement::new()).unwrap();
    assert_eq!(placed.len(), 2);
    // Without it the fair share is too small for one of 16 to be one piece, which it is now.
    let less_wide = Change {
        tenant: tenant(1_001),
        before: 0,
        workers: 16,
    };
    let (_, both) = after.place(&[less_wide], &Placement::new()).unwrap();
    let gone = Change {
        before: 100,
        workers: 0,
        ..change
    };
    assert!(both.place(&[gone], &placed).is_none());

    let small = [Daemon {
        id: "d".into(),
        capacity: 20,
    }];
    let all = place(&small, &tenants, &Placement::new());
    let sums = Sums::of(&small, &tenants, &all);
    assert!(sums.place(&[change], &Placement::new()).is_none());
}
