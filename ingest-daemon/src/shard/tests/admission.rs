//! Many lanes that want a consumer at once.

use super::house::{House, settled, tenant};
use crate::{commit::Limits, lane::Budget};

/// Lanes enough for each to have the least prefetch there is, 20.
const LANES: usize = 500;

/// Lanes that have just been assigned, with bounds as in a real daemon.
fn crowd() -> House {
    let mut house = House::new();
    house.lanes.budget = Budget {
        messages: 64_000,
        bytes: 64 << 20,
        lane_messages: 4_000,
    };
    house.lanes.limits = Limits {
        run_rows: 250,
        rows: 1_000,
        rows_spread: 4_000,
        bytes: 1 << 20,
        tenants: 250,
    };
    for n in 0..LANES {
        house.lanes.run(tenant(n), 3, 1, house.now());
    }
    house.lanes.due(house.now());
    house.perform();
    house
}

/// The broker answers, and delivers to every new consumer as many messages as it may hold.
fn answer_and_deliver(house: &mut House, body: &str) -> usize {
    let before = house.consumers.clone();
    house.answer();
    let new: Vec<_> = house.consumers.difference(&before).copied().collect();
    for tenant in &new {
        let prefetch = house.lanes.lanes[tenant].prefetch;
        house.deliver(tenant.0.as_u128() as usize, &vec![body; usize::from(prefetch)]);
    }
    new.len()
}

#[test]
fn empty_queues_are_all_consumed_within_a_few_round_trips() {
    let mut house = crowd();
    let mut round_trips = 0;
    while !house.asked.is_empty() {
        house.answer();
        round_trips += 1;
    }
    assert_eq!(house.consumers.len(), LANES);
    assert!(round_trips < 15, "{round_trips}");
}

#[test]
fn full_queues_are_consumed_as_those_before_them_are_stored() {
    let mut house = crowd();
    let (mut stored, mut most) = (0, 0);
    for _ in 0..10_000 {
        while answer_and_deliver(&mut house, "1") > 0 {}
        most = most.max(house.unacked.len());
        let Some(commit) = house.commit() else {
            break;
        };
        stored += commit.portions.iter().map(|p| p.messages.len()).sum::<usize>();
        house.settle(commit, settled, false);
        house.lanes.gathering_until = None;
    }
    assert_eq!((stored, house.consumers.len()), (LANES * 20, LANES));
    // The room, and what was on its way when the last were admitted.
    assert!((2_000..=4_000).contains(&most), "{most}");
}

#[test]
fn nobody_waits_for_neighbours_that_are_never_done() {
    let mut house = crowd();
    while answer_and_deliver(&mut house, "1") > 0 {}
    let admitted = house.consumers.len();
    assert!(admitted < LANES / 2, "{admitted}");
    house.lanes.tick(house.now());
    house.perform();
    assert_eq!(house.asked.len(), 25);
    for _ in 0..20 {
        answer_and_deliver(&mut house, "1");
        house.lanes.tick(house.now());
        house.perform();
    }
    assert_eq!(house.consumers.len(), LANES);
}

#[test]
fn large_messages_leave_room_for_fewer() {
    let mut house = crowd();
    house.lanes.budget.bytes = 16 << 20;
    let large = "1".repeat(64 << 10);
    while answer_and_deliver(&mut house, &large) > 0 {}
    let bytes = house.unacked.len() * large.len();
    // The room, and what was on its way when the last were admitted; all of them would be ten times as much.
    assert!((16 << 20..=32 << 20).contains(&bytes), "{bytes}");
}

#[test]
fn a_lane_that_is_stopped_while_it_waits_never_consumes() {
    let mut house = crowd();
    house.lanes.stop(tenant(LANES - 1), 2, house.now());
    house.perform();
    while !house.asked.is_empty() {
        house.answer();
    }
    assert_eq!(house.consumers.len(), LANES - 1);
    assert!(!house.consumers.contains(&tenant(LANES - 1)));
}

#[test]
fn a_lost_channel_lets_everybody_wait_anew() {
    let mut house = crowd();
    while answer_and_deliver(&mut house, "1") > 0 {}
    house.lanes.lost(house.now());
    house.perform();
    house.consumers.clear();
    house.asked.clear();
    house.lanes.due(house.now());
    house.perform();
    assert!((1..10).contains(&house.asked.len()), "{}", house.asked.len());
    while !house.asked.is_empty() {
        house.answer();
    }
    assert_eq!(house.consumers.len(), LANES);
}
