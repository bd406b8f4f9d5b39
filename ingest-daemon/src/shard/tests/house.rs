//! The lanes of a shard with a broker that keeps books.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant, UNIX_EPOCH},
};

use common::{
    broker::{Held, Verdict},
    id::TenantId,
};
use uuid::Uuid;

use crate::{
    broker::{Envelope, Trial},
    clock::Now,
    commit::{Commit, Hold, Outcome, Portion, Settled},
    delivery::{Delivery, Letter},
    flow,
    lane::{Observed, Wanted},
    quarantine::Pace,
    retry,
    shard::{
        Action,
        lanes::{Lanes, Terms},
    },
};

pub(super) const POLICY: flow::Policy = flow::Policy {
    run_rows: 4,
    commit_rows: 16,
    commit_rows_spread: 64,
    commit_bytes: 1 << 20,
    commit_tenants: 8,
    held_bytes: 1 << 20,
};

/// What is asked of a lane that is to do nothing yet.
pub(super) const NOTHING: Wanted = Wanted {
    workers: 0,
    revision: 0,
    store_per_second: None,
    message_bytes: None,
};

/// The lanes, the broker's books about them, and what was told.
pub(super) struct House {
    pub(super) lanes: Lanes,
    pub(super) start: Instant,
    pub(super) elapsed: Duration,
    pub(super) last_tag: u64,
    pub(super) unacked: BTreeSet<u64>,
    pub(super) acked: BTreeSet<u64>,
    /// What was acknowledged or given back since that was last looked at.
    pub(super) off: Vec<u64>,
    pub(super) back: BTreeSet<u64>,
    pub(super) consumers: BTreeSet<TenantId>,
    pub(super) asked: Vec<TenantId>,
    /// Whose consumers were asked to be cancelled, since that was last looked at.
    pub(super) cancelled: Vec<TenantId>,
    /// What each one's consumer may hold.
    pub(super) prefetch: BTreeMap<TenantId, u16>,
    /// When each one's consumer is to be tried apart.
    pub(super) trials: BTreeMap<TenantId, Trial>,
    /// What was asked of each lane.
    wanted: BTreeMap<usize, Wanted>,
    pub(super) letters: Vec<(TenantId, Box<Letter>)>,
    pub(super) told: Vec<(TenantId, Observed)>,
    pub(super) looks: Vec<TenantId>,
    pub(super) restarts: usize,
    pub(super) given_up: bool,
}

pub(super) fn tenant(n: usize) -> TenantId {
    TenantId(Uuid::from_u128(n as u128))
}

impl House {
    pub(super) fn new() -> Self {
        Self::with(POLICY)
    }

    pub(super) fn with(flow: flow::Policy) -> Self {
        Self {
            lanes: Lanes::new(Terms {
                flow,
                message_bytes_max: 1 << 20,
                retry: retry::Policy::new(&[Duration::from_secs(1)]),
            }),
            start: Instant::now(),
            elapsed: Duration::ZERO,
            last_tag: 0,
            unacked: BTreeSet::new(),
            acked: BTreeSet::new(),
            off: Vec::new(),
            back: BTreeSet::new(),
            consumers: BTreeSet::new(),
            asked: Vec::new(),
            cancelled: Vec::new(),
            prefetch: BTreeMap::new(),
            trials: BTreeMap::new(),
            wanted: BTreeMap::new(),
            letters: Vec::new(),
            told: Vec::new(),
            looks: Vec::new(),
            restarts: 0,
            given_up: false,
        }
    }

    pub(super) fn now(&self) -> Now {
        Now {
            instant: self.start + self.elapsed,
            time: UNIX_EPOCH + self.elapsed,
            random: 0.5,
        }
    }

    /// A lane is to run, or to run otherwise, as far as it has no other limit.
    pub(super) fn run(&mut self, n: usize, workers: u32, revision: i64) {
        let wanted = Wanted {
            workers,
            revision,
            ..self.wanted.get(&n).copied().unwrap_or(NOTHING)
        };
        self.want(n, wanted);
    }

    /// A lane is to be stored no faster than this.
    pub(super) fn limit(&mut self, n: usize, store_per_second: Option<f64>) {
        let wanted = Wanted {
            store_per_second,
            ..self.wanted[&n]
        };
        self.want(n, wanted);
    }

    /// A lane is to run like this.
    pub(super) fn want(&mut self, n: usize, wanted: Wanted) {
        self.wanted.insert(n, wanted);
        self.lanes.run(tenant(n), wanted, self.now());
    }

    /// A lane whose consumer is registered.
    pub(super) fn running(&mut self, n: usize, workers: u32) {
        self.run(n, workers, 1);
        self.pass(Duration::ZERO);
        self.answer();
    }

    /// Time passes.
    pub(super) fn pass(&mut self, time: Duration) {
        self.elapsed += time;
        self.lanes.due(self.now());
        self.perform();
    }

    /// The broker answers what it was asked.
    pub(super) fn answer(&mut self) {
        for tenant in std::mem::take(&mut self.asked) {
            if self.consumers.remove(&tenant) {
                self.lanes.ended(tenant, self.now());
            } else if self.trials[&tenant] == Trial::Look {
                self.lanes.seen(tenant, self.now());
            } else {
                self.consumers.insert(tenant);
                self.lanes.subscribed(tenant, self.now());
            }
        }
        self.perform();
    }

    /// Seconds pass with a tick each, and every queue that is looked at has so many messages.
    pub(super) fn seconds(&mut self, seconds: u32, waiting: u32) {
        for _ in 0..seconds {
            self.pass(Duration::from_secs(1));
            self.lanes.tick(self.now());
            self.perform();
            for tenant in std::mem::take(&mut self.looks) {
                self.lanes.looked(tenant, waiting, self.now());
            }
            self.perform();
            self.answer();
            self.pass(Duration::ZERO);
            self.answer();
        }
    }

    pub(super) fn deliver(&mut self, n: usize, bodies: &[&str]) {
        let deliveries = bodies.iter().map(|body| {
            self.last_tag += 1;
            self.unacked.insert(self.last_tag);
            Delivery {
                tag: self.last_tag,
                body: body.as_bytes().to_vec(),
                envelope: Envelope::default(),
                held: Held::default(),
                verdict: None,
            }
        });
        let deliveries = deliveries.collect();
        self.lanes.delivered(tenant(n), deliveries, self.now());
        self.perform();
    }

    /// A message comes for which there was no room.
    pub(super) fn deliver_bodiless(&mut self, n: usize) {
        self.last_tag += 1;
        self.unacked.insert(self.last_tag);
        let delivery = Delivery {
            tag: self.last_tag,
            body: Vec::new(),
            envelope: Envelope::default(),
            held: Held::default(),
            verdict: Some(Verdict::Deferred { bytes: 60 << 20 }),
        };
        self.lanes.delivered(tenant(n), vec![delivery], self.now());
        self.perform();
    }

    pub(super) fn commit(&mut self) -> Option<Commit> {
        let commit = self.lanes.next_commit(self.now());
        self.perform();
        commit
    }

    /// A commit of a lane under suspicion.
    pub(super) fn commit_apart(&mut self) -> Option<Commit> {
        self.commit_of(Pace::Quick).or_else(|| self.commit_of(Pace::Slow))
    }

    /// A commit of a lane under suspicion of this pace.
    pub(super) fn commit_of(&mut self, pace: Pace) -> Option<Commit> {
        let commit = self.lanes.next_apart(pace, self.now());
        self.perform();
        commit
    }

    /// The commit's outcome, portion by portion.
    pub(super) fn settle(&mut self, commit: Commit, fate: impl Fn(Portion) -> Settled, outage: bool) {
        self.lanes.settled(outcome(commit, fate, outage), self.now());
        self.perform();
    }

    /// The same for a lane under suspicion.
    pub(super) fn settle_apart(&mut self, commit: Commit, fate: impl Fn(Portion) -> Settled) {
        self.settle_apart_after(Duration::ZERO, commit, fate);
    }

    /// The same, when it took so long.
    pub(super) fn settle_apart_after(
        &mut self,
        took: Duration,
        commit: Commit,
        fate: impl Fn(Portion) -> Settled,
    ) {
        let outcome = Outcome {
            took,
            ..outcome(commit, fate, false)
        };
        self.lanes.settled_apart(Pace::Quick, outcome, self.now());
        self.perform();
    }

    pub(super) fn perform(&mut self) {
        self.lanes.admit(self.now());
        for action in self.lanes.take_actions() {
            match action {
                Action::Subscribe {
                    tenant,
                    prefetch,
                    trial,
                } => {
                    self.asked.push(tenant);
                    self.prefetch.insert(tenant, prefetch);
                    self.trials.insert(tenant, trial);
                }
                Action::Cancel(tenant) => {
                    self.asked.push(tenant);
                    self.cancelled.push(tenant);
                }
                Action::Ack(ack) => {
                    assert!(self.unacked.contains(&ack.tag), "{ack:?} closes the channel");
                    let from = if ack.multiple { 0 } else { ack.tag };
                    let off: Vec<_> = self.unacked.range(from..=ack.tag).copied().collect();
                    self.acked.extend(off.iter().inspect(|tag| {
                        self.unacked.remove(tag);
                    }));
                    self.off.extend(off);
                }
                Action::GiveBack(tag) => {
                    assert!(self.unacked.remove(&tag));
                    self.back.insert(tag);
                    self.off.push(tag);
                }
                Action::Publish(tenant, letter) => self.letters.push((tenant, letter)),
                Action::Look(tenant) => self.looks.push(tenant),
                Action::Restarted => self.restarts += 1,
                Action::GiveUp(_) => self.given_up = true,
                Action::Tell(tenant, observed) => self.told.push((tenant, observed)),
            }
        }
    }

    pub(super) fn last_told(&self) -> Observed {
        self.told.last().unwrap().1.clone()
    }
}

fn outcome(commit: Commit, fate: impl Fn(Portion) -> Settled, outage: bool) -> Outcome {
    Outcome {
        generation: commit.generation,
        settled: commit.portions.into_iter().map(fate).collect(),
        outage: outage.then(|| "gone".to_owned()),
        took: Duration::ZERO,
    }
}

pub(super) fn settled(portion: Portion) -> Settled {
    Settled {
        tenant: portion.tenant,
        stored: portion.messages,
        duplicates: 0,
        refused: Vec::new(),
        back: Vec::new(),
        hold: None,
    }
}

pub(super) fn untouched(portion: Portion, hold: Option<Hold>) -> Settled {
    Settled {
        tenant: portion.tenant,
        stored: Vec::new(),
        duplicates: 0,
        refused: Vec::new(),
        back: portion.messages,
        hold,
    }
}
