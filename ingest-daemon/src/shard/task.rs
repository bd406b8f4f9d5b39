//! The shard's task: does what its lanes say, and tells them what happens.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use common::{broker::Broker, id::TenantId};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep, sleep_until},
};
use tracing::{debug, info, warn};

use super::{
    Command,
    lanes::{Action, Lanes, Now},
};
use crate::{
    broker::{Event, PublishError, Publisher, Wire},
    commit,
    delivery::{Destination, Letter},
    lane::{Board, Budget},
    metrics::Instruments,
    retry::Policy,
};

/// How often slow things are looked at: gaps in the acknowledgements, prefetches.
const TICK: Duration = Duration::from_millis(100);
/// The pause after a channel could not be opened; the connection backs off for itself.
const REOPEN_PAUSE: Duration = Duration::from_millis(500);
/// While a commit is under way, or messages gather for one, nothing that comes can be stored, so it is looked at this
/// often only: waking up for every delivery costs more than reading it. Whatever has come is taken before the next
/// commit is filled.
const LOOK: Duration = Duration::from_millis(5);
/// Events taken at a time at most. More would keep the shard from its other work for too long.
const EVENTS_MAX: usize = 256;
/// How long to sleep when nothing is due.
const IDLE: Duration = Duration::from_secs(60);

/// What a shard is made of.
#[derive(Debug)]
pub(crate) struct Options {
    /// The daemon's id, for consumer tags.
    pub(crate) daemon: String,
    /// What bounds a commit.
    pub(crate) limits: commit::Limits,
    /// What its lanes may hold together.
    pub(crate) budget: Budget,
    /// The largest body.
    pub(crate) message_bytes_max: usize,
    /// The connection that it consumes on.
    pub(crate) broker: Broker,
    /// When what was refused is tried again.
    pub(crate) retry: Policy,
    /// Publishes what failed.
    pub(crate) publisher: Arc<Publisher>,
    /// Where it tells what its lanes do.
    pub(crate) board: Arc<Board>,
    /// What it measures.
    pub(crate) instruments: Instruments,
}

/// A shard that runs.
#[derive(Debug)]
pub(crate) struct Shard {
    options: Options,
    lanes: Lanes,
    committer: commit::Handle,
    commands: mpsc::Receiver<Command>,
    stopping: bool,
}

/// A letter under way, and what came of it.
type Publishing = FuturesUnordered<BoxFuture<'static, (TenantId, Box<Letter>, Result<(), PublishError>)>>;

impl Shard {
    pub(crate) fn new(
        options: Options,
        committer: commit::Handle,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        let lanes = Lanes::new(
            options.limits.clone(),
            options.budget,
            options.message_bytes_max,
            options.retry.clone(),
        );
        Self {
            options,
            lanes,
            committer,
            commands,
            stopping: false,
        }
    }

    /// Runs until every [`Handle`](super::Handle) is dropped and every lane has ended.
    pub(crate) async fn run(mut self) {
        while let Some(mut wire) = self.open().await {
            let lost = self.serve(&mut wire).await;
            match lost {
                None => wire.close().await,
                Some(why) => {
                    warn!(why, "a shard lost its channel; starting its lanes again");
                    self.lanes.lost(now());
                    // It may still be there, and with it deliveries that nobody will acknowledge. The lanes need not
                    // wait for its end.
                    tokio::spawn(wire.close());
                }
            }
        }
    }

    fn done(&self) -> bool {
        self.stopping && self.lanes.is_empty()
    }

    /// Opens a channel. None once the shard is done.
    async fn open(&mut self) -> Option<Wire> {
        let (broker, daemon) = (self.options.broker.clone(), self.options.daemon.clone());
        let mut opening = pin!(async move {
            loop {
                match Wire::open(&broker, &daemon).await {
                    Ok(wire) => return wire,
                    Err(error) => debug!(%error, "no channel yet"),
                }
                sleep(REOPEN_PAUSE).await;
            }
        });
        loop {
            for action in self.lanes.take_actions() {
                // Without a channel there is nothing else to do: what asks for one waits for its time to come.
                if let Action::Tell(tenant, observed) = action {
                    self.options.board.set(tenant, observed);
                }
            }
            if self.done() {
                return None;
            }
            tokio::select! {
                wire = &mut opening => return Some(wire),
                command = self.commands.recv(), if !self.stopping => self.command(command),
                outcome = self.committer.outcome() => self.lanes.settled(outcome, now()),
            }
        }
    }

    /// Runs the lanes on a channel, and answers why that is lost; nothing if the shard is done.
    async fn serve(&mut self, wire: &mut Wire) -> Option<String> {
        let mut publishing = Publishing::new();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.lanes.due(now());
        loop {
            let waiting = std::iter::from_fn(|| wire.next().now_or_never()).take(EVENTS_MAX);
            for event in waiting {
                if let Err(lost) = self.event(event) {
                    return Some(lost);
                }
            }
            if !self.committer.busy()
                && let Some(commit) = self.lanes.next_commit(now())
            {
                self.committer.start(commit);
            }
            self.lanes.admit(now());
            for action in self.lanes.take_actions() {
                if let Some(why) = self.perform(action, wire, &mut publishing) {
                    return Some(why);
                }
            }
            if self.done() {
                return None;
            }
            let due = self.lanes.next_due(Instant::now());
            let due = due.unwrap_or_else(|| Instant::now() + IDLE);
            let storing = self.committer.busy() || self.lanes.gathers(Instant::now());
            tokio::select! {
                event = wire.next(), if !storing => {
                    if let Err(lost) = self.event(event) {
                        return Some(lost);
                    }
                }
                () = sleep(LOOK), if storing => {}
                outcome = self.committer.outcome() => self.lanes.settled(outcome, now()),
                Some((tenant, letter, result)) = publishing.next() => {
                    if result.is_ok() {
                        match letter.to {
                            Destination::DeadLetters => self.options.instruments.dead_lettered(),
                            Destination::Delay(_) => self.options.instruments.retried(),
                        }
                        log(tenant, &letter);
                    }
                    self.lanes.published(tenant, letter, result, now());
                }
                command = self.commands.recv(), if !self.stopping => self.command(command),
                () = sleep_until(due.into()) => self.lanes.due(now()),
                _ = tick.tick() => self.lanes.tick(now()),
            }
        }
    }

    /// Fails with the reason when the channel is lost.
    fn event(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Delivered(tenant, deliveries) => self.lanes.delivered(tenant, deliveries, now()),
            Event::Subscribed(tenant) => {
                info!(%tenant, "lane consumes");
                self.lanes.subscribed(tenant, now());
            }
            Event::Unavailable(tenant, error) => self.lanes.unavailable(tenant, &error.to_string(), now()),
            Event::Waiting(tenant, waiting) => self.lanes.looked(tenant, waiting, now()),
            Event::Ended(tenant) => self.lanes.ended(tenant, now()),
            Event::Lost(why) => return Err(why),
        }
        Ok(())
    }

    fn command(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Run {
                tenant,
                workers,
                revision,
            }) => self.lanes.run(tenant, workers as usize, revision, now()),
            Some(Command::Stop { tenant, revision }) => self.lanes.stop(tenant, revision, now()),
            None => {
                self.stopping = true;
                self.lanes.stop_all(now());
            }
        }
    }

    /// Answers why the channel is to be given up, if it is.
    fn perform(&self, action: Action, wire: &mut Wire, publishing: &mut Publishing) -> Option<String> {
        match action {
            Action::Subscribe(tenant, prefetch) => wire.subscribe(tenant, prefetch),
            Action::Cancel(tenant) => wire.cancel(tenant),
            Action::Ack(ack) => wire.ack(ack),
            Action::GiveBack(tag) => wire.give_back(tag),
            Action::Look(tenant) => wire.look(tenant),
            Action::Restarted => self.options.instruments.restarted(),
            Action::GiveUp(why) => return Some(why),
            Action::Tell(tenant, observed) => self.options.board.set(tenant, observed),
            Action::Publish(tenant, letter) => {
                let publisher = Arc::clone(&self.options.publisher);
                publishing.push(
                    async move {
                        let result = publisher.publish(tenant, &letter).await;
                        (tenant, letter, result)
                    }
                    .boxed(),
                );
            }
        }
        None
    }
}

fn now() -> Now {
    Now {
        instant: Instant::now(),
        time: SystemTime::now(),
        random: rand::random(),
    }
}

/// Says that a message failed: once an attempt, when what follows from that is safe.
fn log(tenant: TenantId, letter: &Letter) {
    let (id, attempt, reason, detail) = (letter.id, letter.attempts, letter.reason.as_str(), &letter.detail);
    match letter.to {
        Destination::DeadLetters => {
            warn!(%tenant, %id, attempt, reason, detail, "a message was dead-lettered")
        }
        Destination::Delay(delay) => {
            warn!(%tenant, %id, attempt, reason, detail, ?delay, "a message failed and is tried again later");
        }
    }
}
