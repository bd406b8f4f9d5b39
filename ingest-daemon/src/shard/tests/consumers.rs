//! When a lane's consumer is replaced, tried and asked for again.

use std::time::Duration;

use super::house::{House, settled, tenant};
use crate::{broker::Trial, flow::QUIET_MESSAGES, lane::Kind};

#[test]
fn a_broker_that_is_silent_is_asked_for_no_other_consumer() {
    let mut house = House::new();
    house.running(1, 1);
    house.deliver(1, &["{"; 4]);
    house.answer();
    house.answer();
    house.deliver(1, &["{"; QUIET_MESSAGES]);
    house.answer();
    house.answer();
    let prefetch = house.prefetch[&tenant(1)];
    assert!(usize::from(prefetch) > 2 * QUIET_MESSAGES, "{prefetch}");
    house.lanes.tick(house.now());
    // Its letters are under way, and the lane that had much has nothing more.
    for _ in 0..50 {
        house.pass(Duration::from_millis(100));
        house.lanes.tick(house.now());
        house.perform();
        assert!(house.asked.is_empty());
    }
    // Once it holds nothing it is to hold less.
    while let Some((tenant, letter)) = house.letters.pop() {
        house
            .lanes
            .published(tenant, letter, Ok::<_, String>(()), house.now());
        house.perform();
    }
    house.running(2, 1);
    house.deliver(2, &["1"]);
    house.lanes.tick(house.now());
    house.perform();
    house.answer();
    house.answer();
    assert_eq!(usize::from(house.prefetch[&tenant(1)]), QUIET_MESSAGES);
}

#[test]
fn a_consumer_is_replaced_by_one_that_may_hold_more_when_nothing_can_be_on_its_way() {
    let mut house = House::new();
    house.running(1, 1);
    let cancelled = |house: &mut House| std::mem::take(&mut house.cancelled).len();
    (0..3).for_each(|_| {
        house.deliver(1, &["1"]);
        let commit = house.commit().unwrap();
        house.settle(commit, settled, false);
    });
    // Known, and one of two.
    house.deliver(1, &["1"]);
    assert_eq!(cancelled(&mut house), 0);
    house.lanes.tick(house.now());
    house.perform();
    assert_eq!(cancelled(&mut house), 0);
    house.deliver(1, &["1"]);
    assert_eq!((cancelled(&mut house), house.prefetch[&tenant(1)]), (1, 2));
    assert_eq!(house.trials[&tenant(1)], Trial::IfConsumed);
    house.answer();
    house.answer();
    assert_eq!(house.trials[&tenant(1)], Trial::Never);
    // What the consumer before brought does not count.
    let prefetch = usize::from(house.prefetch[&tenant(1)]);
    assert_eq!(prefetch, QUIET_MESSAGES);
    house.deliver(1, &vec!["1"; prefetch - 1]);
    assert_eq!(cancelled(&mut house), 0);
}

#[test]
fn a_lane_that_the_channel_was_closed_over_is_tried_apart() {
    let mut house = House::new();
    house.running(1, 1);
    house.running(2, 1);
    house.lanes.lost(&[tenant(1)], "in exclusive use", house.now());
    house.consumers.clear();
    house.perform();
    assert_eq!(house.asked, [tenant(2)]);
    let trials = |house: &House, n| house.trials[&tenant(n)];
    assert_eq!(trials(&house, 2), Trial::IfConsumed);
    house.pass(Duration::from_secs(1));
    assert_eq!(trials(&house, 1), Trial::Look);
    house.answer();
    house.pass(Duration::from_secs(1));
    assert_eq!(trials(&house, 1), Trial::Always);
    house.answer();
    assert_eq!(house.consumers.len(), 2);
    assert!(house.told.iter().any(|(_, told)| {
        told.problem
            .as_ref()
            .is_some_and(|problem| problem.kind == Kind::Queue)
    }));
    assert_eq!(house.last_told().problem, None);
}

#[test]
fn a_restart_that_comes_due_while_the_consumer_is_still_being_cancelled_is_not_forgotten() {
    let mut house = House::new();
    house.running(1, 1);
    house.deliver(1, &["1"]);
    house.pass(Duration::from_secs(601));
    // Parked for 30 s, but the broker answers the cancelling only after a minute.
    house.lanes.tick(house.now());
    house.perform();
    house.pass(Duration::from_secs(60));
    house.answer();
    assert!(house.consumers.is_empty());
    house.pass(Duration::ZERO);
    house.answer();
    assert_eq!(house.consumers.len(), 1);
}
