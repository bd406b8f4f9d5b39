//! The task that stores one shard's commits, one after the other.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use common::config;
use tokio::sync::mpsc;

use super::{
    Commit, Gate, Hold, Outcome, Portion, Settled,
    pass::{Answer, Fate, Fates, Pass},
    store::Store,
};
use crate::{delivery::Message, metrics::Instruments};

/// Stores a shard's commits.
#[derive(Debug)]
pub(crate) struct Committer {
    store: Store,
    instruments: Instruments,
    /// A suspects' committer passes it before it connects.
    gate: Option<Arc<Gate>>,
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
        instruments: Instruments,
    ) -> Result<Self, config::Error> {
        Ok(Self {
            store: Store::new(database)?,
            instruments,
            gate: None,
        })
    }

    /// A committer for lanes under suspicion, one of them to a commit. It has a connection only while a commit is
    /// under way, so there may be many of them.
    pub(crate) fn suspects(
        database: &config::Database,
        instruments: Instruments,
        gate: Arc<Gate>,
    ) -> Result<Self, config::Error> {
        Ok(Self {
            gate: Some(gate),
            ..Self::shared(database, instruments)?
        })
    }

    /// Starts the task; it ends when the handle is dropped.
    pub(crate) fn spawn(mut self) -> Handle {
        let (commits, mut receiver) = mpsc::channel(1);
        let (sender, outcomes) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(commit) = receiver.recv().await {
                let gate = self.gate.clone();
                let _pass = match &gate {
                    Some(gate) => Some(gate.pass(Duration::ZERO).await),
                    None => None,
                };
                let outcome = self.pass(commit).await;
                if gate.is_some() {
                    self.store.close().await;
                }
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

    async fn pass(&mut self, commit: Commit) -> Outcome {
        let begun = Instant::now();
        let sizes: Vec<usize> = commit
            .portions
            .iter()
            .map(|portion| portion.messages.len())
            .collect();
        let mut pass = Pass::new(&sizes);
        loop {
            let trial = self.gate.is_some() || pass.in_trouble();
            let Some(piece) = pass.next() else { break };
            let rows: Vec<_> = piece
                .iter()
                .map(|(portion, rows)| {
                    let portion = &commit.portions[*portion];
                    (portion.tenant, &portion.messages[rows.clone()])
                })
                .collect();
            let started = Instant::now();
            let answer = match self.store.commit(&rows, trial).await {
                Ok(new) => {
                    let messages = rows.iter().map(|(_, messages)| messages.len()).sum();
                    self.instruments.committed(messages, started.elapsed());
                    Answer::Committed(rows.iter().map(|(tenant, _)| new.get(tenant).copied()).collect())
                }
                Err(failure) => Answer::Failed(failure.blame, failure.detail),
            };
            pass.answer(piece, answer);
        }
        let (fates, outage) = pass.finish();
        let settled = commit
            .portions
            .into_iter()
            .zip(fates)
            .map(|(portion, fates)| settled(portion, fates, outage.is_some()));
        let settled = settled.collect();
        let outcome = Outcome {
            generation: commit.generation,
            settled,
            outage,
            took: begun.elapsed(),
        };
        self.instruments.stored(&outcome);
        outcome
    }
}

fn settled(portion: Portion, fates: Fates, outage: bool) -> Settled {
    let whole = fates.rows.iter().all(|fate| *fate == Fate::Stored);
    let mut settled = Settled {
        tenant: portion.tenant,
        stored: Vec::new(),
        duplicates: fates.duplicates,
        refused: Vec::new(),
        back: Vec::new(),
        hold: None,
    };
    if whole {
        settled.stored = portion.messages;
        return settled;
    }
    for (message, fate) in portion.messages.into_iter().zip(fates.rows) {
        let message: Message = message;
        match fate {
            Fate::Stored => settled.stored.push(message),
            Fate::Back => settled.back.push(message),
            Fate::Refused(detail) => settled.refused.push((message, detail)),
        }
    }
    settled.hold = match fates.unwritable {
        Some(detail) => Some(Hold::Unwritable(detail)),
        None if fates.busy => Some(Hold::Busy),
        None if !outage && !settled.back.is_empty() => Some(Hold::Unfinished),
        None => None,
    };
    settled
}
