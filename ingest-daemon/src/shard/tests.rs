//! A shard's lanes against a broker and a committer that only keep books.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant, UNIX_EPOCH},
};

use common::id::TenantId;
use proptest::prelude::*;
use uuid::Uuid;

use super::lanes::{Action, Lanes, Now};
use crate::{
    broker::Envelope,
    commit::{Commit, Hold, Limits, Outcome, Portion, Settled},
    delivery::{DeadLetter, Delivery},
    lane::{Budget, Observed, Standing},
};

const LIMITS: Limits = Limits {
    run_rows: 4,
    rows: 16,
    rows_spread: 64,
    bytes: 1 << 20,
    tenants: 8,
};

/// The lanes, the broker's books about them, and what was told.
struct House {
    lanes: Lanes,
    start: Instant,
    elapsed: Duration,
    last_tag: u64,
    unacked: BTreeSet<u64>,
    acked: BTreeSet<u64>,
    back: BTreeSet<u64>,
    consumers: BTreeSet<TenantId>,
    asked: Vec<TenantId>,
    letters: Vec<(TenantId, Box<DeadLetter>)>,
    told: Vec<(TenantId, Observed)>,
}

fn tenant(n: usize) -> TenantId {
    TenantId(Uuid::from_u128(n as u128))
}

impl House {
    fn new() -> Self {
        let budget = Budget {
            messages: 1_000,
            bytes: 1 << 20,
            lane_messages: 1_000,
        };
        Self {
            lanes: Lanes::new(LIMITS, budget, 100),
            start: Instant::now(),
            elapsed: Duration::ZERO,
            last_tag: 0,
            unacked: BTreeSet::new(),
            acked: BTreeSet::new(),
            back: BTreeSet::new(),
            consumers: BTreeSet::new(),
            asked: Vec::new(),
            letters: Vec::new(),
            told: Vec::new(),
        }
    }

    fn now(&self) -> Now {
        Now {
            instant: self.start + self.elapsed,
            time: UNIX_EPOCH + self.elapsed,
            random: 0.5,
        }
    }

    /// A lane whose consumer is registered.
    fn running(&mut self, n: usize, workers: usize) {
        self.lanes.run(tenant(n), workers, 1, self.now());
        self.pass(Duration::ZERO);
        self.answer();
    }

    /// Time passes.
    fn pass(&mut self, time: Duration) {
        self.elapsed += time;
        self.lanes.due(self.now());
        self.perform();
    }

    /// The broker answers what it was asked.
    fn answer(&mut self) {
        for tenant in std::mem::take(&mut self.asked) {
            if self.consumers.remove(&tenant) {
                self.lanes.ended(tenant, self.now());
            } else {
                self.consumers.insert(tenant);
                self.lanes.subscribed(tenant, self.now());
            }
        }
        self.perform();
    }

    fn deliver(&mut self, n: usize, bodies: &[&str]) {
        let deliveries = bodies.iter().map(|body| {
            self.last_tag += 1;
            self.unacked.insert(self.last_tag);
            Delivery {
                tag: self.last_tag,
                body: body.as_bytes().to_vec(),
                envelope: Envelope::default(),
            }
        });
        let deliveries = deliveries.collect();
        self.lanes.delivered(tenant(n), deliveries, self.now());
        self.perform();
    }

    fn commit(&mut self) -> Option<Commit> {
        let commit = self.lanes.next_commit(self.now());
        self.perform();
        commit
    }

    /// The commit's outcome, portion by portion.
    fn settle(&mut self, commit: Commit, fate: impl Fn(Portion) -> Settled, outage: bool) {
        let outcome = Outcome {
            generation: commit.generation,
            settled: commit.portions.into_iter().map(fate).collect(),
            outage: outage.then(|| "gone".to_owned()),
        };
        self.lanes.settled(outcome, self.now());
        self.perform();
    }

    fn perform(&mut self) {
        for action in self.lanes.take_actions() {
            match action {
                Action::Subscribe(tenant, _) | Action::Cancel(tenant) => self.asked.push(tenant),
                Action::Ack(ack) => {
                    assert!(self.unacked.contains(&ack.tag), "{ack:?} closes the channel");
                    let from = if ack.multiple { 0 } else { ack.tag };
                    let off: Vec<_> = self.unacked.range(from..=ack.tag).copied().collect();
                    self.acked.extend(off.iter().inspect(|tag| {
                        self.unacked.remove(tag);
                    }));
                }
                Action::GiveBack(tag) => {
                    assert!(self.unacked.remove(&tag));
                    self.back.insert(tag);
                }
                Action::Publish(tenant, letter) => self.letters.push((tenant, letter)),
                Action::Tell(tenant, observed) => self.told.push((tenant, observed)),
            }
        }
    }

    fn last_told(&self) -> Observed {
        self.told.last().unwrap().1
    }
}

fn settled(portion: Portion) -> Settled {
    Settled {
        tenant: portion.tenant,
        stored: portion.messages,
        duplicates: 0,
        refused: Vec::new(),
        back: Vec::new(),
        hold: None,
    }
}

fn untouched(portion: Portion, hold: Option<Hold>) -> Settled {
    Settled {
        tenant: portion.tenant,
        stored: Vec::new(),
        duplicates: 0,
        refused: Vec::new(),
        back: portion.messages,
        hold,
    }
}

#[test]
fn workers_are_the_runs_in_flight_and_a_change_shows_in_the_next_commit() {
    let mut house = House::new();
    house.running(1, 1);
    house.deliver(1, &["1"; 40]);
    let commit = house.commit().unwrap();
    assert_eq!(commit.portions[0].messages.len(), 4);
    assert_eq!((house.last_told().busy, house.last_told().held), (1, 40));
    house.lanes.run(tenant(1), 3, 2, house.now());
    house.settle(commit, settled, false);
    assert_eq!(house.commit().unwrap().portions[0].messages.len(), 12);
    assert_eq!((house.last_told().busy, house.last_told().revision), (3, 2));
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
    assert_eq!(house.back.len(), 6);
    assert!(!house.lanes.is_empty() && house.acked.is_empty());
    house.settle(commit, settled, false);
    assert_eq!(house.acked.len(), 4);
    assert!(house.lanes.is_empty());
    assert_eq!(
        (house.last_told().state, house.last_told().revision),
        (Standing::Stopped, 2)
    );
}

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
    let commit = house.commit().unwrap();
    assert!(commit.trial, "its neighbours do not wait with it");
    let payloads: Vec<_> = commit.portions[0]
        .messages
        .iter()
        .map(|m| m.payload.as_str())
        .collect();
    assert_eq!(payloads, ["1", "2", "3"]);
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
fn a_row_that_is_refused_again_and_again_is_dead_lettered_and_others_go_on() {
    let mut house = House::new();
    house.running(1, 1);
    house.deliver(1, &["1", "2"]);
    let refuse_first = |mut portion: Portion| {
        let refused = portion.messages.remove(0);
        Settled {
            refused: vec![(refused, "check".into())],
            ..settled(portion)
        }
    };
    for _ in 0..5 {
        let commit = house.commit().unwrap();
        house.settle(commit, refuse_first, false);
        house.pass(Duration::from_secs(5));
    }
    assert!(house.commit().is_none());
    assert_eq!(house.letters[0].1.attempts, 5);
    assert_eq!(house.lanes.retried, 4);
}

#[test]
fn a_lost_channel_forgets_every_delivery_and_consumes_again() {
    let mut house = House::new();
    house.running(1, 1);
    house.deliver(1, &["1", "2"]);
    let commit = house.commit().unwrap();
    house.lanes.lost(house.now());
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

proptest! {
    /// Whatever happens in whatever order: what is acknowledged was stored or is a safe dead letter, nothing is
    /// settled twice, and in the end nothing is left over.
    #[test]
    fn every_delivery_is_settled_once(steps in prop::collection::vec((0_u8..10, 1_usize..4), 1..120)) {
        let mut house = House::new();
        let mut safe = BTreeSet::new();
        let mut under_way: Option<Commit> = None;
        for n in 1..4 {
            house.running(n, n);
        }
        let stop = steps.len();
        let ending = (0..400).map(|step| (if step == 0 { 9 } else { [3, 5, 7, 8][step % 4] }, 1));
        for (step, (choice, n)) in steps.into_iter().chain(ending).enumerate() {
            match choice {
                0 if house.consumers.contains(&tenant(n)) && step < stop => house.deliver(n, &["1", "{", "3"]),
                1 if step < stop => house.lanes.run(tenant(n), n, 1, house.now()),
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
