//! The task that stores one shard's commits, one after the other.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use common::config;
use tokio::sync::mpsc;

use super::{
    Commit, Gate, Hold, Outcome, Portion, Settled,
    blame::Blame,
    failure::Failure,
    pass::{Answer, Fate, Fates, Pass, Piece, Step, Verdict},
    patience::{self, Terms},
    store::{Job, Rows, Store},
};
use crate::{metrics::Instruments, quarantine::Pace, spans::Spans};

/// Stores a shard's commits.
#[derive(Debug)]
pub(crate) struct Committer {
    store: Store,
    instruments: Instruments,
    spans: Spans,
    manner: Manner,
}

/// How a committer goes about it.
#[derive(Debug)]
enum Manner {
    /// Many share its commits: nobody may hold them up.
    Shared {
        patience: patience::Shared,
        /// How deeply the next commit is split from the start.
        depth: u32,
    },
    /// One tenant has a commit for itself, and the time that it takes, once the gate lets it in.
    Suspects {
        patience: patience::Suspects,
        gate: Arc<Gate>,
    },
}

/// A shard's way to its committer. One commit at a time: the next one is filled meanwhile, in the lanes.
#[derive(Debug)]
pub(crate) struct Handle {
    commits: mpsc::Sender<Commit>,
    outcomes: mpsc::Receiver<Outcome>,
    in_flight: bool,
}

impl Handle {
    /// Whether a commit is under way.
    pub(crate) fn busy(&self) -> bool {
        self.in_flight
    }

    /// Hands a commit over. Only while none is under way.
    pub(crate) fn start(&mut self, commit: Commit) {
        debug_assert!(!self.in_flight);
        self.in_flight = true;
        // There is room for one. It fails only when the committer has panicked, which `outcome` finds out.
        let _ = self.commits.try_send(commit);
    }

    /// What became of the commit under way. Never, if there is none. Dropping the future loses nothing.
    ///
    /// # Panics
    /// If the committer has: without it the shard, and with that the program, is to end. What it holds goes back to
    /// the broker.
    pub(crate) async fn outcome(&mut self) -> Outcome {
        let outcome = self.outcomes.recv().await;
        self.in_flight = false;
        outcome.unwrap_or_else(|| panic!("the committer is gone"))
    }
}

impl Committer {
    /// The committer that a shard's lanes share.
    pub(crate) fn shared(
        database: &config::Database,
        watchers: (Instruments, Spans),
    ) -> Result<Self, config::Error> {
        let manner = Manner::Shared {
            patience: patience::Shared::default(),
            depth: 0,
        };
        Self::new(database, watchers, manner)
    }

    /// A committer for lanes under suspicion of this pace, one of them to a commit. It has a connection only while a
    /// commit is under way, so there may be many of them.
    pub(crate) fn suspects(
        database: &config::Database,
        watchers: (Instruments, Spans),
        gate: Arc<Gate>,
        pace: Pace,
    ) -> Result<Self, config::Error> {
        let manner = Manner::Suspects {
            patience: patience::Suspects::new(pace),
            gate,
        };
        Self::new(database, watchers, manner)
    }

    fn new(
        database: &config::Database,
        (instruments, spans): (Instruments, Spans),
        manner: Manner,
    ) -> Result<Self, config::Error> {
        Ok(Self {
            store: Store::new(database)?,
            instruments,
            spans,
            manner,
        })
    }

    /// Starts the task; it ends when the handle is dropped.
    pub(crate) fn spawn(mut self) -> Handle {
        let (commits, mut receiver) = mpsc::channel(1);
        let (sender, outcomes) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(commit) = receiver.recv().await {
                let outcome = self.store(commit).await;
                if sender.send(outcome).await.is_err() {
                    break;
                }
            }
            self.store.close().await;
        });
        Handle {
            commits,
            outcomes,
            in_flight: false,
        }
    }

    async fn store(&mut self, commit: Commit) -> Outcome {
        let outcome = match &self.manner {
            Manner::Shared { patience, .. } => {
                let terms = patience.terms();
                self.pass(commit, terms).await
            }
            Manner::Suspects { patience, gate } => {
                // One tenant's; of more the first one's terms are as good as any.
                let terms = patience.terms(commit.portions.first().map(|portion| portion.tenant));
                let gate = Arc::clone(gate);
                let _pass = gate.pass(terms.whole.statement).await;
                let outcome = self.pass(commit, terms).await;
                self.store.close().await;
                outcome
            }
        };
        self.instruments.stored(&outcome);
        outcome
    }

    async fn pass(&mut self, commit: Commit, terms: Terms) -> Outcome {
        // Suspects connect anew for every commit, which says nothing about their tables.
        self.store.connect().await;
        let begun = Instant::now();
        let sizes: Vec<usize> = commit
            .portions
            .iter()
            .map(|portion| portion.messages.len())
            .collect();
        let mut pass = Pass::new(&sizes, terms.rows_max, self.manner.depth(), terms.budget);
        while let Some(step) = pass.next(begun.elapsed()) {
            match step {
                Step::Try(piece, whole) => {
                    let answer = self.attempt(&commit, &piece, whole, terms).await;
                    pass.answer(piece, answer);
                }
                Step::Probe => {
                    let well = self.store.probe(terms.probe).await;
                    pass.probed(well.map_err(Failure::detail));
                }
            }
        }
        let took = begun.elapsed();
        let verdict = pass.finish();
        self.manner.learn(&verdict, &commit, took);
        let shared = self.manner.shared();
        let (generation, several) = (commit.generation, commit.portions.len() > 1);
        let outage = verdict.outage;
        let fates = commit.portions.into_iter().zip(verdict.fates);
        let mut settled: Vec<_> = fates
            .map(|(portion, fates)| {
                let hold = hold(&fates, several, shared, outage.is_some());
                settled(portion, fates, hold)
            })
            .collect();
        // Whoever had no turn is the first to be ready again.
        settled.sort_by_key(|settled| settled.hold != Some(Hold::Unfinished));
        Outcome {
            generation,
            settled,
            outage,
            took,
        }
    }

    async fn attempt(&mut self, commit: &Commit, piece: &Piece, whole: bool, terms: Terms) -> Answer {
        let rows: Vec<Rows<'_>> = piece
            .iter()
            .map(|(portion, rows)| {
                let portion = &commit.portions[*portion];
                (portion.tenant, &portion.messages[rows.clone()])
            })
            .collect();
        let started = Instant::now();
        let (job, patience) = match whole && self.manner.shared() {
            true => (Job::StoreAll(&rows), terms.whole),
            false => (Job::StorePart(&rows), terms.part),
        };
        match self.store.run(job, patience).await {
            Ok(new) => {
                let messages = rows.iter().map(|(_, messages)| messages.len()).sum();
                self.instruments.committed(messages, started.elapsed());
                let stored = rows.iter().filter(|(tenant, _)| new.contains_key(tenant));
                self.spans.committed(stored, started.elapsed());
                Answer::Committed(rows.iter().map(|(tenant, _)| new.get(tenant).copied()).collect())
            }
            Err(Failure::Refused(blame, detail)) => Answer::Failed(blame, detail),
            Err(Failure::Unreachable(detail)) => Answer::Unreachable(detail),
        }
    }
}

impl Manner {
    fn shared(&self) -> bool {
        matches!(self, Self::Shared { .. })
    }

    fn depth(&self) -> u32 {
        match self {
            Self::Shared { depth, .. } => *depth,
            Self::Suspects { .. } => 0,
        }
    }

    /// Takes to heart what a pass has shown.
    fn learn(&mut self, verdict: &Verdict, commit: &Commit, took: Duration) {
        match self {
            Self::Shared { patience, depth } => {
                *depth = verdict.depth;
                if verdict.too_slow {
                    patience.too_slow();
                } else if verdict.clean {
                    patience.stored(took);
                }
            }
            Self::Suspects { patience, .. } => {
                for (portion, fates) in commit.portions.iter().zip(&verdict.fates) {
                    match &fates.failure {
                        Some((Blame::Slow, _)) => patience.too_slow(portion.tenant),
                        Some(_) => {}
                        None if verdict.outage.is_some() => {}
                        None => patience.stored(portion.tenant, took),
                    }
                }
            }
        }
    }
}

/// Why a tenant is left alone, if it is. What is found out among several, or with a shared commit's short patience,
/// is a suspicion.
fn hold(fates: &Fates, several: bool, shared: bool, outage: bool) -> Option<Hold> {
    match &fates.failure {
        Some((Blame::Slow | Blame::Locked, _)) if shared => Some(Hold::Suspected),
        Some(_) if several => Some(Hold::Suspected),
        Some((_, detail)) => Some(Hold::Unwritable(detail.clone())),
        None if fates.busy => Some(Hold::Busy),
        None if !outage && fates.rows.contains(&Fate::Back) => Some(Hold::Unfinished),
        None => None,
    }
}

fn settled(portion: Portion, fates: Fates, hold: Option<Hold>) -> Settled {
    let mut settled = Settled {
        tenant: portion.tenant,
        stored: Vec::new(),
        duplicates: fates.duplicates,
        refused: Vec::new(),
        back: Vec::new(),
        hold,
    };
    if fates.rows.iter().all(|fate| *fate == Fate::Stored) {
        settled.stored = portion.messages;
        return settled;
    }
    for (message, fate) in portion.messages.into_iter().zip(fates.rows) {
        match fate {
            Fate::Stored => settled.stored.push(message),
            Fate::Back => settled.back.push(message),
            Fate::Refused(detail) => settled.refused.push((message, detail)),
        }
    }
    settled
}
