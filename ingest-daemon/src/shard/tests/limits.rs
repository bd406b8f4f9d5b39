//! Lanes whose tenants may be stored no faster than so.

use std::time::Duration;

use super::house::{House, POLICY, settled, tenant};
use crate::flow::Policy;

/// Policy's, but for commits that hold all there is.
fn house() -> House {
    House::with(Policy {
        run_rows: 250,
        commit_rows: 1_000,
        commit_rows_spread: 4_000,
        ..POLICY
    })
}

fn limit(house: &mut House, n: usize, per_second: Option<f64>) {
    house.limit(n, per_second);
    house.perform();
}

/// Stores whatever can be stored until nothing is due within `time`, and answers how much that was.
fn store(house: &mut House, time: Duration) -> usize {
    let (end, mut stored) = (house.elapsed + time, 0);
    loop {
        while let Some(commit) = house.commit() {
            stored += commit
                .portions
                .iter()
                .map(|portion| portion.messages.len())
                .sum::<usize>();
            house.settle(commit, settled, false);
        }
        match house.lanes.next_due(house.now().instant) {
            Some(due) if due <= house.start + end => house.pass(due - house.now().instant),
            _ => {
                house.elapsed = end;
                return stored;
            }
        }
    }
}

#[test]
fn a_limited_lane_is_stored_at_its_rate_and_is_due_by_itself() {
    let mut house = house();
    house.running(1, 3);
    limit(&mut house, 1, Some(100.0));
    house.deliver(1, &["1"; 600]);
    let first = store(&mut house, Duration::from_secs(1));
    assert!((100..=125).contains(&first), "{first}");
    let next = store(&mut house, Duration::from_secs(3));
    assert!((290..=310).contains(&next), "{next}");
    // Without a limit, at once.
    limit(&mut house, 1, None);
    assert_eq!(store(&mut house, Duration::ZERO), 600 - first - next);
    assert!(house.back.is_empty());
}

#[test]
fn what_a_limited_lane_holds_keeps_nobodys_acknowledgements() {
    let mut house = house();
    house.running(1, 1);
    house.running(2, 1);
    limit(&mut house, 1, Some(1.0));
    house.deliver(1, &["1"; 6]);
    store(&mut house, Duration::ZERO);
    for _ in 0..5 {
        house.deliver(2, &["1"; 3]);
        assert_eq!(store(&mut house, Duration::from_millis(1)), 3);
        assert_eq!(house.unacked.len(), 4, "its own, and nothing of its neighbour");
    }
}

#[test]
fn what_waits_for_its_turn_is_no_silence_and_no_problem() {
    let mut house = house();
    house.running(1, 1);
    limit(&mut house, 1, Some(0.1));
    house.deliver(1, &["1"; 9]);
    let mut stored = 0;
    for _ in 0..4 {
        house.seconds(9, 1_000);
        stored += store(&mut house, Duration::ZERO);
    }
    assert!((4..=7).contains(&stored), "{stored}");
    assert_eq!(house.restarts, 0);
    assert!(house.told.iter().all(|(_, told)| told.problem.is_none()));
}

#[test]
fn what_would_take_too_long_at_a_new_limit_goes_back() {
    let mut house = house();
    house.running(1, 1);
    house.deliver(1, &["1"; 700]);
    let mut look = |per_second| {
        limit(&mut house, 1, Some(per_second));
        // Its consumer is replaced by one that holds less, if by nothing else.
        for _ in 0..3 {
            house.lanes.tick(house.now());
            house.perform();
            house.answer();
        }
        house.back.len()
    };
    assert_eq!(look(2.0), 0, "six minutes are well before the broker minds");
    assert_eq!(look(1.0), 700);
    house.pass(Duration::ZERO);
    house.answer();
    assert_eq!((house.consumers.len(), house.prefetch[&tenant(1)]), (1, 1));
}

#[test]
fn a_limited_lane_that_is_stopped_gives_back_what_it_holds() {
    let mut house = house();
    house.running(1, 1);
    limit(&mut house, 1, Some(1.0));
    house.deliver(1, &["1"; 9]);
    assert_eq!(store(&mut house, Duration::ZERO), 2);
    house.lanes.stop(tenant(1), 2, house.now());
    house.perform();
    house.answer();
    assert_eq!((house.acked.len(), house.back.len()), (2, 7));
    assert!(house.lanes.is_empty());
}
