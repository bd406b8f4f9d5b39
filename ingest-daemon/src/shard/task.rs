//! The shard's task: does what its lanes say, and tells them what happens.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use common::{broker::Broker, id::TenantId};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep, sleep_until},
};
use tracing::{debug, warn};

use super::{
    Action, Command,
    lanes::{Lanes, Terms},
};
use crate::{
    broker::{Event, Loss, PublishError, Publisher, Wire},
    clock::Now,
    commit,
    delivery::{Destination, Letter},
    flow,
    lane::Board,
    metrics::Instruments,
    quarantine::Pace,
    retry::Policy,
    spans::Spans,
};

/// How often slow things are looked at: gaps in the acknowledgements, prefetches.
const TICK: Duration = Duration::from_millis(100);
/// The pause after a channel could not be opened; the connection backs off for itself.
const REOPEN_PAUSE: Duration = Duration::from_millis(500);
/// While a commit is under way, or messages gather for one, what comes is looked at this often: it is read meanwhile, and
/// waking up for every delivery costs more than reading it. Whatever has come is taken before the next commit is filled.
const LOOK: Duration = Duration::from_millis(1);
/// Events taken at a time at most. More would keep the shard from its other work for too long.
const EVENTS_MAX: usize = 256;
/// How long to sleep when nothing is due.
const IDLE: Duration = Duration::from_secs(60);

/// What a shard is made of.
#[derive(Debug)]
pub(crate) struct Options {
    /// The daemon's id, for consumer tags.
    pub(crate) daemon: String,
    /// How much of everything.
    pub(crate) flow: flow::Policy,
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
    pub(crate) spans: Spans,
}

/// What stores a shard's messages.
#[derive(Debug)]
pub(crate) struct Committers {
    /// Those of many tenants together.
    pub(crate) shared: commit::Handle,
    /// Those of lanes under suspicion.
    pub(crate) quick: commit::Handle,
    /// The same, of those that take long.
    pub(crate) slow: commit::Handle,
}

/// A shard that runs.
#[derive(Debug)]
pub(crate) struct Shard {
    options: Options,
    lanes: Lanes,
    committers: Committers,
    commands: mpsc::Receiver<Command>,
    stopping: bool,
}

/// A letter under way, and what came of it.
type Publishing = FuturesUnordered<BoxFuture<'static, (TenantId, Box<Letter>, Result<(), PublishError>)>>;

impl Shard {
    pub(crate) fn new(options: Options, committers: Committers, commands: mpsc::Receiver<Command>) -> Self {
        let lanes = Lanes::new(Terms {
            flow: options.flow.clone(),
            message_bytes_max: options.message_bytes_max,
            retry: options.retry.clone(),
        });
        Self {
            options,
            lanes,
            committers,
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
                Some(Loss { why, blamed }) => {
                    warn!(why, "a shard lost its channel; starting its lanes again");
                    self.lanes.lost(&blamed, &why, Now::read());
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
                outcome = self.committers.shared.outcome() => self.lanes.settled(outcome, Now::read()),
                outcome = self.committers.quick.outcome() => {
                    self.lanes.settled_apart(Pace::Quick, outcome, Now::read());
                }
                outcome = self.committers.slow.outcome() => {
                    self.lanes.settled_apart(Pace::Slow, outcome, Now::read());
                }
            }
        }
    }

    /// Runs the lanes on a channel, and answers why that is lost; nothing if the shard is done.
    async fn serve(&mut self, wire: &mut Wire) -> Option<Loss> {
        let mut publishing = Publishing::new();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.lanes.due(Now::read());
        loop {
            let waiting = std::iter::from_fn(|| wire.next().now_or_never()).take(EVENTS_MAX);
            for event in waiting {
                if let Err(lost) = self.event(event) {
                    return Some(lost);
                }
            }
            if !self.committers.shared.busy()
                && let Some(commit) = self.lanes.next_commit(Now::read())
            {
                self.committers.shared.start(commit);
            }
            let Committers { quick, slow, .. } = &mut self.committers;
            for (pace, committer) in [(Pace::Quick, quick), (Pace::Slow, slow)] {
                if !committer.busy()
                    && let Some(commit) = self.lanes.next_apart(pace, Now::read())
                {
                    committer.start(commit);
                }
            }
            self.lanes.admit(Now::read());
            for action in self.lanes.take_actions() {
                if let Some(loss) = self.perform(action, wire, &mut publishing) {
                    return Some(loss);
                }
            }
            if self.done() {
                return None;
            }
            let due = self.lanes.next_due(Instant::now());
            let due = due.unwrap_or_else(|| Instant::now() + IDLE);
            let storing = self.committers.shared.busy() || self.lanes.gathers(Instant::now());
            tokio::select! {
                event = wire.next(), if !storing => {
                    if let Err(lost) = self.event(event) {
                        return Some(lost);
                    }
                }
                () = sleep(LOOK), if storing => {}
                outcome = self.committers.shared.outcome() => self.lanes.settled(outcome, Now::read()),
                outcome = self.committers.quick.outcome() => {
                    self.lanes.settled_apart(Pace::Quick, outcome, Now::read());
                }
                outcome = self.committers.slow.outcome() => {
                    self.lanes.settled_apart(Pace::Slow, outcome, Now::read());
                }
                Some((tenant, letter, result)) = publishing.next() => {
                    if result.is_ok() {
                        match letter.to {
                            Destination::DeadLetters => self.options.instruments.dead_lettered(),
                            Destination::Delay(_) => self.options.instruments.retried(),
                        }
                        self.options.spans.failed(tenant, &letter);
                        log(tenant, &letter);
                    }
                    self.lanes.published(tenant, letter, result, Now::read());
                }
                command = self.commands.recv(), if !self.stopping => self.command(command),
                () = sleep_until(due.into()) => self.lanes.due(Now::read()),
                _ = tick.tick() => self.lanes.tick(Now::read()),
            }
        }
    }

    /// Fails with the reason when the channel is lost.
    fn event(&mut self, event: Event) -> Result<(), Loss> {
        match event {
            Event::Delivered(tenant, deliveries) => self.lanes.delivered(tenant, deliveries, Now::read()),
            Event::Subscribed(tenant) => {
                self.lanes.subscribed(tenant, Now::read());
            }
            Event::Seen(tenant) => self.lanes.seen(tenant, Now::read()),
            Event::Unavailable(tenant, why) => self.lanes.unavailable(tenant, &why, Now::read()),
            Event::Waiting(tenant, waiting) => self.lanes.looked(tenant, waiting, Now::read()),
            Event::Ended(tenant) => self.lanes.ended(tenant, Now::read()),
            Event::Lost(loss) => return Err(loss),
        }
        Ok(())
    }

    fn command(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Run(tenant, wanted)) => self.lanes.run(tenant, wanted, Now::read()),
            Some(Command::Stop { tenant, revision }) => self.lanes.stop(tenant, revision, Now::read()),
            None => {
                self.stopping = true;
                self.lanes.stop_all(Now::read());
            }
        }
    }

    /// Answers a loss when the channel is to be given up.
    fn perform(&self, action: Action, wire: &mut Wire, publishing: &mut Publishing) -> Option<Loss> {
        match action {
            Action::Subscribe {
                tenant,
                prefetch,
                trial,
            } => wire.subscribe(tenant, prefetch, trial),
            Action::Cancel(tenant) => wire.cancel(tenant),
            Action::Ack(ack) => wire.ack(ack),
            Action::GiveBack(tag) => wire.give_back(tag),
            Action::Look(tenant) => wire.look(tenant),
            Action::Restarted => self.options.instruments.restarted(),
            Action::GiveUp(why) => return Some(Loss::nobodys(&why)),
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
