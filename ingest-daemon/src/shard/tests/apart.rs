//! Lanes under suspicion.

use std::{collections::BTreeSet, time::Duration};

use super::house::{House, settled, tenant, untouched};
use crate::{
    commit::{Hold, Portion, Settled},
    lane::Kind,
    quarantine::Pace,
};

#[test]
fn a_held_tenant_keeps_its_order_and_holds_nobody() {
    let mut house = House::new();
    house.running(1, 1);
    house.running(2, 1);
    house.deliver(1, &["1", "2", "3"]);
    house.deliver(2, &["1"]);
    let commit = house.commit().unwrap();
    assert_eq!(commit.portions.len(), 2);
    let fate = |portion: Portion| match portion.tenant == tenant(1) {
        true => untouched(portion, Some(Hold::Unwritable("locked".into()))),
        false => settled(portion),
    };
    house.settle(commit, fate, false);
    assert!(house.commit().is_none());
    // The neighbour's tag lies behind the gap, which stays open.
    house.lanes.tick(house.now());
    house.lanes.tick(house.now());
    house.perform();
    assert_eq!(house.acked, BTreeSet::from([4]));
    house.pass(Duration::from_secs(1));
    house.deliver(2, &["2"]);
    let commit = house.commit().unwrap();
    assert_eq!(
        commit.portions[0].tenant,
        tenant(2),
        "its neighbours do not wait with it"
    );
    let commit = house.commit_apart().unwrap();
    assert!(house.commit_apart().is_none());
    house.settle_apart(commit, settled);
    let commit = house.commit_apart().unwrap();
    let payloads: Vec<_> = commit.portions[0]
        .messages
        .iter()
        .map(|m| m.payload.as_str())
        .collect();
    assert_eq!(payloads, ["2", "3"]);
}

#[test]
fn whose_table_was_locked_for_a_moment_does_not_wait_for_who_is_slow() {
    let mut house = House::new();
    let (slow, locked) = (1, 2);
    for n in [slow, locked] {
        house.running(n, 1);
        house.deliver(n, &["1"]);
    }
    let doubt = |portion: Portion| untouched(portion, Some(Hold::Suspected));
    let commit = house.commit().unwrap();
    house.settle(commit, doubt, false);
    let commit = house.commit_apart().unwrap();
    assert_eq!(commit.portions[0].tenant, tenant(slow));
    let too_slow = |portion: Portion| untouched(portion, Some(Hold::Unwritable("timeout".into())));
    house.settle_apart_after(Duration::from_millis(1_200), commit, too_slow);
    house.pass(Duration::from_secs(1));
    let under_way = house.commit_of(Pace::Slow).unwrap();
    assert_eq!(under_way.portions[0].tenant, tenant(slow));
    let commit = house.commit_of(Pace::Quick).unwrap();
    assert_eq!(commit.portions[0].tenant, tenant(locked));
    house.settle_apart(commit, settled);
    assert_eq!(
        house.acked,
        BTreeSet::new(),
        "the slow one's delivery was the first"
    );
    house.settle_apart(under_way, settled);
    assert_eq!(house.acked.len(), 2);
}

#[test]
fn a_table_that_refuses_everything_holds_its_tenant_and_lets_go_of_it_after_one_is_stored() {
    let mut house = House::new();
    house.running(1, 8);
    let refuse = |mut portion: Portion| Settled {
        refused: portion
            .messages
            .drain(..)
            .map(|message| (message, "broken trigger".into()))
            .collect(),
        ..settled(portion)
    };
    for _ in 0..10 {
        house.deliver(1, &["1"; 4]);
        if let Some(commit) = house.commit() {
            house.settle(commit, refuse, false);
        }
        if let Some(commit) = house.commit_apart() {
            house.settle_apart(commit, refuse);
        }
        house.pass(Duration::from_secs(6));
    }
    let mut letters = 0;
    while let Some((lane, letter)) = house.letters.pop() {
        letters += 1;
        house
            .lanes
            .published(lane, letter, Ok::<_, &str>(()), house.now());
        house.perform();
    }
    assert_eq!(letters, 20);
    assert_eq!(house.last_told().problem.unwrap().kind, Kind::Table);
    for _ in 0..20 {
        house.pass(Duration::from_secs(6));
        while let Some(commit) = house.commit_apart().or_else(|| house.commit()) {
            let apart =
                commit.portions.iter().all(|portion| portion.tenant == tenant(1)) && !house.told.is_empty();
            match apart {
                true => house.settle_apart(commit, settled),
                false => house.settle(commit, settled, false),
            }
        }
    }
    house.lanes.tick(house.now());
    house.perform();
    assert!(house.unacked.is_empty(), "{:?}", house.unacked);
    assert_eq!(house.last_told().problem, None);
}
