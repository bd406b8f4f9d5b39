//! A shard: one AMQP channel with many lanes on it, and one committer. One task owns all of it, so nothing is locked
//! and nothing is sent around per message.
//!
//! [`lanes`] decides, purely (with [`consuming`], [`storing`], [`admission`] and [`acks`]); [`task`] does what it says.

mod acks;
mod admission;
mod consuming;
mod lanes;
mod liveness;
mod storing;
mod task;
#[cfg(test)]
mod tests;

use common::id::TenantId;
use tokio::sync::mpsc;

pub(crate) use self::task::{Options, Shard};

/// Commands under way to a shard. It takes them between two events, so few ever wait.
const COMMANDS_MAX: usize = 256;

/// What a shard is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Run a lane, or run it otherwise.
    Run {
        /// The tenant.
        tenant: TenantId,
        /// How many workers.
        workers: u32,
        /// The assignment's revision.
        revision: i64,
    },
    /// Stop a lane.
    Stop {
        /// The tenant.
        tenant: TenantId,
        /// The withdrawal's revision.
        revision: i64,
    },
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
