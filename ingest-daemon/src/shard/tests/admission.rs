//! Many lanes that want a consumer at once.

use std::{num::NonZeroU32, time::Duration};

use super::house::{House, NOTHING, settled, tenant};
use crate::{
    flow::{LIGHT_MESSAGES, Policy, QUIET_MESSAGES},
    lane::Wanted,
};

/// Lanes enough for each to have the least prefetch there is.
const LANES: usize = 500;

/// Lanes that have just been assigned, with bounds as in a real daemon, but for the bytes.
fn crowd(bytes: usize) -> House {
    crowd_of(bytes, None)
}

/// The same, of tenants whose messages were seen before.
fn crowd_of(bytes: usize, message_bytes: Option<NonZeroU32>) -> House {
    let mut house = House::with(Policy {
        run_rows: 250,
        commit_rows: 1_000,
        commit_rows_spread: 4_000,
        commit_bytes: 1 << 20,
        commit_tenants: 250,
        held_bytes: bytes,
    });
    for n in 0..LANES {
        let wanted = Wanted {
            workers: 3,
            revision: 1,
            message_bytes,
            ..NOTHING
        };
        house.want(n, wanted);
    }
    house.perform();
    house
}

/// The broker answers, and delivers to every new consumer as many messages as it may hold beside what its lane has.
fn answer_and_deliver(house: &mut House, body: &str) -> usize {
    let before = house.consumers.clone();
    house.answer();
    let new: Vec<_> = house.consumers.difference(&before).copied().collect();
    for tenant in &new {
        let prefetch = house.prefetch[tenant];
        house.deliver(tenant.0.as_u128() as usize, &vec![body; usize::from(prefetch)]);
    }
    new.len()
}

#[test]
fn empty_queues_are_all_consumed_within_a_few_round_trips() {
    let mut house = crowd(64 << 20);
    let mut round_trips = 0;
    while !house.asked.is_empty() {
        house.answer();
        round_trips += 1;
    }
    assert_eq!(house.consumers.len(), LANES);
    assert!(round_trips < 20, "{round_trips}");
}

#[test]
fn full_queues_are_consumed_as_those_before_them_are_stored() {
    let mut house = crowd(64 << 20);
    let mut most = 0;
    for _ in 0..10_000 {
        while answer_and_deliver(&mut house, "1") > 0 {}
        most = most.max(house.unacked.len());
        let Some(commit) = house.commit() else {
            break;
        };
        house.settle(commit, settled, false);
        house.pass(Duration::from_millis(40));
    }
    assert_eq!(house.consumers.len(), LANES);
    // The room, and what was on its way when the last were admitted.
    assert!(most <= 4_000, "{most}");
}

#[test]
fn lanes_whose_messages_are_not_known_get_two_and_room_is_kept_for_what_they_will_hold() {
    let mut house = crowd(64 << 20);
    while answer_and_deliver(&mut house, "1") > 0 {}
    assert!(house.prefetch.values().all(|prefetch| *prefetch == 2));
    let admitted = house.consumers.len();
    let room = LIGHT_MESSAGES / QUIET_MESSAGES;
    assert!((room / 2..room * 2).contains(&admitted), "{admitted}");
}

#[test]
fn lanes_whose_messages_were_seen_before_begin_with_what_they_had() {
    for (message_bytes, prefetch) in [(256, QUIET_MESSAGES), (2 << 20, 1)] {
        let mut house = crowd_of(64 << 20, NonZeroU32::new(message_bytes));
        house.answer();
        assert!(
            house.prefetch.values().all(|has| usize::from(*has) == prefetch),
            "{:?}",
            house.prefetch
        );
    }
}

#[test]
fn nobody_waits_for_neighbours_that_are_never_done() {
    let mut house = crowd(64 << 20);
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
    let mut house = crowd(4 << 20);
    let large = "1".repeat(64 << 10);
    while answer_and_deliver(&mut house, &large) > 0 {}
    let bytes = house.unacked.len() * large.len();
    // The room, and what was on its way when the last were admitted; all of them would be ten times as much.
    assert!((128 << 10..=10 << 20).contains(&bytes), "{bytes}");
}

#[test]
fn a_lane_that_is_stopped_while_it_waits_never_consumes() {
    let mut house = crowd(64 << 20);
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
    let mut house = crowd(64 << 20);
    while answer_and_deliver(&mut house, "1") > 0 {}
    house.lanes.lost(&[], "gone", house.now());
    house.consumers.clear();
    house.asked.clear();
    house.perform();
    assert!((1..10).contains(&house.asked.len()), "{}", house.asked.len());
    while !house.asked.is_empty() {
        house.answer();
    }
    assert_eq!(house.consumers.len(), LANES);
}
