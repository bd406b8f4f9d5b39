//! A shard: one AMQP channel with many lanes on it, a committer that they share, and one for those under suspicion. One
//! task owns all of it, so nothing is locked and nothing is sent around per message.
//!
//! [`lanes`] decides, purely: it tells what happens to the lane that it concerns and to the parts that all lanes share,
//! and answers with [`Action`]s. The parts own what they decide by: [`admission`] of consumers, [`filling`] of commits,
//! [`acks`], what lanes have ([`load`]), the [`watch`] over lanes that get nothing, and the [`agenda`] of what is due. [`task`] does what they say.

mod acks;
mod admission;
mod agenda;
mod filling;
mod lanes;
mod load;
mod task;
#[cfg(test)]
mod tests;
mod turns;
mod watch;

use common::id::TenantId;
use tokio::sync::mpsc;

pub(crate) use self::task::{Committers, Options, Shard};
use crate::{
    broker::Trial,
    delivery::Letter,
    lane::{Observed, Wanted},
    settle::Ack,
};

/// Commands under way to a shard. It takes them between two events, so few ever wait.
const COMMANDS_MAX: usize = 256;

/// What a shard is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Run a lane, or run it otherwise.
    Run(TenantId, Wanted),
    /// Stop a lane.
    Stop {
        /// The tenant.
        tenant: TenantId,
        /// The withdrawal's revision.
        revision: i64,
    },
}

/// Something to be done.
#[derive(Debug)]
enum Action {
    /// Ask for a consumer.
    Subscribe {
        /// Of whose queue.
        tenant: TenantId,
        /// How many messages it may hold.
        prefetch: u16,
        /// When to try it on a channel of its own first.
        trial: Trial,
    },
    /// Ask for a consumer to be cancelled.
    Cancel(TenantId),
    /// Acknowledge.
    Ack(Ack),
    /// Give a delivery back.
    GiveBack(u64),
    /// Publish what failed.
    Publish(TenantId, Box<Letter>),
    /// Tell what a lane does.
    Tell(TenantId, Observed),
    /// Look how many messages wait in a lane's queue.
    Look(TenantId),
    /// Count that a lane was restarted.
    Restarted,
    /// Give the channel up.
    GiveUp(String),
}

/// The way to a shard. Dropping all of them stops its lanes and then the shard.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    commands: mpsc::Sender<Command>,
}

impl Handle {
    /// A handle, and what the shard listens to.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Command>) {
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        (Self { commands }, receiver)
    }

    /// Tells the shard. One that has ended is told nothing.
    pub(crate) async fn tell(&self, command: Command) {
        let _ = self.commands.send(command).await;
    }
}
