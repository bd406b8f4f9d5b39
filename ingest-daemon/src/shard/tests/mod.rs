//! A shard's lanes against a broker and a committer that only keep books.

mod admission;
mod apart;
mod consumers;
mod house;
mod limits;
mod silence;
mod simulation;

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;

use self::house::{House, POLICY, settled, tenant, untouched};
use crate::{
    commit::{Commit, Hold, Portion, Settled},
    delivery::Destination,
    flow::{Policy, QUIET_MESSAGES},
    lane::{Kind, Standing},
};

#[test]
fn workers_are_the_runs_in_flight_and_a_change_shows_in_the_next_commit() {
    let mut house = House::new();
    house.running(1, 1);
    house.deliver(1, &["1"; 40]);
    let commit = house.commit().unwrap();
    assert_eq!(commit.portions[0].messages.len(), 4);
    assert_eq!((house.last_told().busy, house.last_told().held), (1, 40));
    house.run(1, 3, 2);
    house.settle(commit, settled, false);
    assert_eq!(house.commit().unwrap().portions[0].messages.len(), 12);
    assert_eq!((house.last_told().busy, house.last_told().revision), (3, 2));
}

#[test]
fn a_full_queue_is_stored_in_shorter_runs_while_quiet_tenants_send_beside_it() {
    let mut house = House::with(Policy {
        run_rows: 40,
        ..POLICY
    });
    house.running(1, 1);
    house.running(2, 1);
    house.deliver(1, &["1"; QUIET_MESSAGES]);
    house.answer();
    house.answer();
    // They are known after sixteen messages, and company after ten more.
    for _ in 0..30 {
        house.deliver(1, &["1"; QUIET_MESSAGES]);
        house.deliver(2, &["1"]);
        let commit = house.commit().unwrap();
        house.settle(commit, settled, false);
        house.pass(Duration::from_millis(20));
    }
    house.deliver(1, &["1"; 40]);
    let commit = house.commit().unwrap();
    assert_eq!(commit.portions[0].messages.len(), 5);
    house.settle(commit, settled, false);
    house.pass(Duration::from_secs(1));
    assert_eq!(house.commit().unwrap().portions[0].messages.len(), 40);
}

#[test]
fn messages_of_many_busy_tenants_gather_for_a_larger_commit() {
    let mut house = House::with(Policy {
        commit_tenants: 250,
        commit_rows: 1_000,
        ..POLICY
    });
    let deliver = |house: &mut House, count| (0..100).for_each(|n| house.deliver(n, &["1"; 3][..count]));
    let rows = |commit: &Commit| -> usize {
        let portions = commit.portions.iter();
        portions.map(|portion| portion.messages.len()).sum()
    };
    (0..100).for_each(|n| house.running(n, 3));
    // Until they are known, and hold more than two.
    for _ in 0..8 {
        deliver(&mut house, 2);
        if let Some(commit) = house.commit() {
            house.settle(commit, settled, false);
        }
        house.answer();
        house.answer();
    }
    house.pass(Duration::from_secs(1));
    deliver(&mut house, 3);
    let thin = house.commit().unwrap();
    assert_eq!(thin.portions.len(), 100);
    deliver(&mut house, 1);
    house.settle(thin, settled, false);
    assert!(house.commit().is_none());
    deliver(&mut house, 2);
    let until = house.lanes.next_due(house.now().instant).unwrap();
    house.pass(until - house.now().instant);
    let next = house.commit().unwrap();
    assert_eq!(rows(&next), 300);

    // A commit of few tenants makes nobody wait.
    house.settle(next, settled, false);
    house.pass(Duration::from_secs(1));
    house.deliver(1, &["1"]);
    let small = house.commit().unwrap();
    house.deliver(1, &["2"]);
    house.settle(small, settled, false);
    assert!(house.commit().is_some());
}

#[test]
fn a_pause_finishes_what_workers_took_and_gives_back_the_rest() {
    let mut house = House::new();
    house.running(1, 1);
    house.deliver(1, &["1"; 10]);
    let commit = house.commit().unwrap();
    house.lanes.stop(tenant(1), 2, house.now());
    house.perform();
    assert!(house.back.is_empty(), "its consumer would get them again");
    house.answer();
    // Behind the acknowledgements.
    assert!(house.back.is_empty() && !house.lanes.is_empty() && house.acked.is_empty());
    house.settle(commit, settled, false);
    assert_eq!((house.acked.len(), house.back.len()), (4, 6));
    assert!(house.lanes.is_empty());
    assert_eq!(
        (house.last_told().state, house.last_told().revision),
        (Standing::Stopped, 2)
    );
}

#[test]
fn an_outage_holds_everything_and_counts_no_attempt() {
    let mut house = House::new();
    house.running(1, 1);
    house.deliver(1, &["1", "2"]);
    for _ in 0..20 {
        let commit = house.commit().unwrap();
        assert!(
            commit.portions[0]
                .messages
                .iter()
                .all(|message| message.attempts == 0)
        );
        house.settle(commit, |portion| untouched(portion, None), true);
        assert!(house.commit().is_none());
        house.pass(Duration::from_secs(2));
    }
    assert!(house.letters.is_empty() && house.acked.is_empty() && house.back.is_empty());
}

#[test]
fn a_bad_body_is_acknowledged_only_after_its_dead_letter_is_safe() {
    let mut house = House::new();
    house.running(1, 1);
    house.deliver(1, &["{", "1"]);
    let (lane, letter) = house.letters.pop().unwrap();
    house
        .lanes
        .published(lane, letter, Err("no such queue"), house.now());
    house.perform();
    assert!(house.letters.is_empty() && house.acked.is_empty());
    house.pass(Duration::from_secs(1));
    let (lane, letter) = house.letters.pop().unwrap();
    house
        .lanes
        .published(lane, letter, Ok::<_, &str>(()), house.now());
    house.perform();
    assert_eq!(house.acked, BTreeSet::from([1]));
}

#[test]
fn a_refused_row_goes_to_its_delay_and_in_the_end_to_the_dead_letters_and_others_are_stored() {
    let mut house = House::new();
    house.running(1, 1);
    let refuse_first = |mut portion: Portion| {
        let refused = portion.messages.remove(0);
        Settled {
            refused: vec![(refused, "check".into())],
            ..settled(portion)
        }
    };
    let delay = Destination::Delay(Duration::from_secs(1));
    for (before, to) in [(0, delay), (1, Destination::DeadLetters)] {
        house.deliver(1, &["1", "2"]);
        let (poison, neighbour) = (house.last_tag - 1, house.last_tag);
        let mut commit = house.commit().unwrap();
        // As its header has it on its way back.
        commit.portions[0].messages[0].attempts = before;
        house.settle(commit, refuse_first, false);
        house.lanes.tick(house.now());
        house.lanes.tick(house.now());
        house.perform();
        assert!(house.acked.contains(&neighbour) && !house.acked.contains(&poison));
        let (lane, letter) = house.letters.pop().unwrap();
        assert_eq!((letter.to, letter.attempts), (to, before + 1));
        assert_eq!(letter.first_failed, house.now().time);
        house
            .lanes
            .published(lane, letter, Ok::<_, &str>(()), house.now());
        house.perform();
        assert!(house.acked.contains(&poison), "it is safe elsewhere");
        assert!(house.commit().is_none());
    }
}

#[test]
fn a_lost_channel_forgets_every_delivery_and_consumes_again() {
    let mut house = House::new();
    house.running(1, 1);
    house.deliver(1, &["1", "2"]);
    let commit = house.commit().unwrap();
    house.lanes.lost(&[], "gone", house.now());
    house.consumers.clear();
    house.unacked.clear();
    house.perform();
    assert_eq!(
        (house.last_told().state, house.last_told().held),
        (Standing::Starting, 0)
    );
    house.settle(commit, settled, false);
    assert!(
        house.acked.is_empty(),
        "a tag of the channel before means nothing"
    );
    house.pass(Duration::ZERO);
    house.answer();
    assert_eq!(house.last_told().state, Standing::Running);
}

#[test]
fn a_tenant_that_does_not_run_is_told_of_as_stopped() {
    let mut house = House::new();
    house.lanes.stop(tenant(1), 9, house.now());
    house.perform();
    assert_eq!(
        (house.last_told().state, house.last_told().revision),
        (Standing::Stopped, 9)
    );
}

#[test]
fn what_cannot_be_settled_for_long_goes_back_before_the_broker_minds() {
    let mut house = House::new();
    house.running(1, 1);
    house.deliver(1, &["1"; 9]);
    house.pass(Duration::from_secs(601));
    house.lanes.tick(house.now());
    house.perform();
    house.answer();
    assert_eq!(house.back.len(), 9);
    assert!(house.consumers.is_empty());
    house.pass(Duration::from_secs(31));
    house.answer();
    assert_eq!(house.consumers.len(), 1);
}

#[test]
fn what_there_is_no_room_for_goes_back_when_nothing_comes_any_more_and_comes_again_later() {
    let mut house = House::new();
    house.running(1, 1);
    house.deliver(1, &["1"]);
    house.deliver_bodiless(1);
    assert!(house.back.is_empty(), "its consumer would get it again");
    house.answer();
    assert_eq!(house.back, BTreeSet::from([1, 2]));
    assert_eq!(house.last_told().problem.unwrap().kind, Kind::Delivery);
    house.pass(Duration::from_secs(1));
    house.answer();
    assert_eq!((house.consumers.len(), house.prefetch[&tenant(1)]), (1, 1));
    house.deliver(1, &["1"]);
    assert_eq!(house.last_told().problem, None);
}

proptest! {
    /// Whatever happens in whatever order: what is acknowledged was stored or is a safe dead letter, nothing is
    /// settled twice, and in the end nothing is left over.
    #[test]
    fn every_delivery_is_settled_once(steps in prop::collection::vec((0_u8..10, 1_usize..4), 1..120)) {
        let mut house = House::new();
        let mut safe = BTreeSet::new();
        let mut under_way: Option<Commit> = None;
        for n in 1..4 {
            house.running(n, n as u32);
        }
        let stop = steps.len();
        let ending = (0..400).map(|step| (if step == 0 { 9 } else { [3, 5, 7, 8][step % 4] }, 1));
        for (step, (choice, n)) in steps.into_iter().chain(ending).enumerate() {
            match choice {
                0 if house.consumers.contains(&tenant(n)) && step < stop => house.deliver(n, &["1", "{", "3"]),
                1 if step < stop => house.run(n, n as u32, 1),
                2 => house.lanes.stop(tenant(n), 2, house.now()),
                3 => house.answer(),
                4 | 5 => {
                    if let Some(commit) = under_way.take() {
                        let fail = choice == 4;
                        if !fail {
                            safe.extend(commit.portions.iter().flat_map(|p| &p.messages).map(|m| m.tag));
                        }
                        let fate = |portion| if fail { untouched(portion, Some(Hold::Busy)) } else { settled(portion) };
                        house.settle(commit, fate, false);
                    }
                }
                6 => house.lanes.tick(house.now()),
                7 => if let Some((lane, letter)) = house.letters.pop() {
                    let ok = step >= stop || n == 1;
                    if ok {
                        safe.insert(letter.tag);
                    }
                    house.lanes.published(lane, letter, if ok { Ok(()) } else { Err("no") }, house.now());
                },
                8 => house.pass(Duration::from_secs(1)),
                _ => if step >= stop { house.lanes.stop_all(house.now()) },
            }
            house.perform();
            if under_way.is_none() {
                under_way = house.commit();
            }
            prop_assert!(house.acked.is_subset(&safe));
        }
        prop_assert!(house.lanes.is_empty());
        prop_assert!(house.unacked.is_empty(), "{:?}", house.unacked);
        prop_assert_eq!(&house.acked, &safe);
    }
}
