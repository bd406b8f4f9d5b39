//! Lanes that get nothing although their queues are not empty.

use std::time::Duration;

use super::house::{House, settled};
use crate::lane::{Kind, Standing};

#[test]
fn a_lane_that_gets_nothing_of_what_waits_is_restarted_and_in_the_end_its_channel_is() {
    let mut house = House::new();
    house.running(1, 1);
    house.seconds(60, 0);
    assert_eq!(house.restarts, 0, "its queue was empty");
    house.seconds(11, 5);
    assert_eq!(house.restarts, 0, "that may have come just now");
    house.seconds(3, 5);
    assert_eq!((house.restarts, house.consumers.len()), (1, 1));
    assert!(
        house
            .told
            .iter()
            .any(|(_, told)| told.state == Standing::Starting)
    );
    assert_eq!(house.last_told().state, Standing::Running);
    house.seconds(13, 5);
    assert!(house.restarts == 2 && house.given_up, "nobody has anything on it");
    assert_eq!(house.last_told().problem.unwrap().kind, Kind::Delivery);
}

#[test]
fn a_lane_that_gets_nothing_does_not_cost_its_neighbours_their_channel() {
    let mut house = House::new();
    house.running(1, 1);
    house.running(2, 1);
    house.deliver(2, &["1"]);
    house.seconds(120, 5);
    assert!(house.restarts > 2 && !house.given_up, "{}", house.restarts);
    house.pass(Duration::from_secs(60));
    house.answer();
    assert_eq!(house.consumers.len(), 2);
    house.deliver(1, &["1"]);
    assert_eq!(house.last_told().problem, None);
}

#[test]
fn a_channel_that_brings_others_their_messages_is_not_given_up() {
    let mut house = House::new();
    house.running(1, 1);
    house.running(2, 1);
    for _ in 0..60 {
        house.deliver(2, &["1"]);
        let commit = house.commit().unwrap();
        house.settle(commit, settled, false);
        house.seconds(2, 5);
    }
    assert!(house.restarts > 2 && !house.given_up, "{}", house.restarts);
}

#[test]
fn a_lane_that_gets_something_is_well() {
    let mut house = House::new();
    house.running(1, 1);
    for _ in 0..20 {
        house.seconds(9, 5);
        house.deliver(1, &["1"]);
        let commit = house.commit().unwrap();
        house.settle(commit, settled, false);
    }
    // What is held is not stored, which is another matter.
    house.deliver(1, &["1"]);
    house.seconds(60, 5);
    assert_eq!(house.restarts, 0);
}
