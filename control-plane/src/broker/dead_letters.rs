//! Dead-letter queues: read without changing them, and purged.

use std::collections::VecDeque;

use common::{
    broker::{Broker, Error, within},
    id::TenantId,
};
use futures::future;
use lapin::{
    Channel,
    options::{BasicAckOptions, BasicGetOptions, BasicNackOptions, QueueDeclareOptions, QueuePurgeOptions},
    types::FieldTable,
};

use super::{Letter, Publisher};
use crate::error::Error as CallError;

/// The reply code of a queue that is not there.
const NOT_FOUND: u16 = 404;
/// The most dead letters that are asked of the broker together.
const AHEAD_LETTERS: u32 = 32;
/// The most of their bodies, going by the largest of those before.
const AHEAD_BYTES: usize = 4 << 20;

/// Tenants' dead-letter queues.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetterQueues {
    queues: Broker,
    publisher: Publisher,
}

impl DeadLetterQueues {
    /// Reads over one connection and publishes over another: a broker that is short of memory stops reading from
    /// those that publish.
    pub(crate) fn new(queues: Broker, publisher: Publisher) -> Self {
        Self { queues, publisher }
    }

    /// Begins to read the dead letters that a tenant has now.
    pub(crate) async fn read(&self, tenant: TenantId) -> Result<Reader, CallError> {
        let channel = self.channel().await?;
        let queue = tenant.dead_letter_queue();
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let declared = within(channel.queue_declare(queue.as_str().into(), options, FieldTable::default()));
        let left = declared
            .await
            .map_err(|error| missing(error, tenant))?
            .message_count();
        Ok(Reader {
            channel,
            tenant,
            queue,
            ahead: VecDeque::new(),
            at_once: 1,
            left,
        })
    }

    /// Deletes a tenant's dead letters and answers how many those were.
    pub(crate) async fn purge(&self, tenant: TenantId) -> Result<u32, CallError> {
        let channel = self.channel().await?;
        let purge = channel.queue_purge(tenant.dead_letter_queue().into(), QueuePurgeOptions::default());
        let purged = within(purge).await.map_err(|error| missing(error, tenant))?;
        close(channel).await;
        Ok(purged)
    }

    /// What publishes replays.
    pub(crate) fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }

    async fn channel(&self) -> Result<Channel, Error> {
        self.queues.link().await?.channel().await
    }
}

/// Reads dead letters from the oldest on, on a channel of its own. What is not [`done`](Self::done) goes back to its
/// place when the channel closes, by [`close`](Self::close), by a drop, or by a crash.
#[derive(Debug)]
pub(crate) struct Reader {
    channel: Channel,
    tenant: TenantId,
    queue: String,
    /// Read, and not yet asked for.
    ahead: VecDeque<Letter>,
    /// How many are asked of the broker together the next time: one at first, since nothing is known of their sizes.
    at_once: u32,
    /// How many of those that were there at the beginning are still unread: what arrives meanwhile is not chased.
    left: u32,
}

impl Reader {
    /// The next dead letter.
    pub(crate) async fn next(&mut self) -> Result<Option<Letter>, CallError> {
        if self.ahead.is_empty() {
            self.read().await?;
        }
        Ok(self.ahead.pop_front())
    }

    /// Asks for the next few together, which hides the broker's round trip.
    async fn read(&mut self) -> Result<(), CallError> {
        let options = BasicGetOptions { no_ack: false };
        let at_once = self.at_once.min(self.left);
        let gets = (0..at_once).map(|_| self.channel.basic_get(self.queue.as_str().into(), options));
        let got = within(future::try_join_all(gets)).await;
        let got = got.map_err(|error| missing(error, self.tenant))?;
        self.ahead.extend(got.into_iter().flatten().map(|message| {
            let delivery = message.delivery;
            Letter::new(delivery.delivery_tag, delivery.data, delivery.properties)
        }));
        // Fewer than there should be: somebody else has taken the rest.
        let came = u32::try_from(self.ahead.len()).unwrap_or(at_once);
        self.left = if came == at_once { self.left - came } else { 0 };
        let largest = self.ahead.iter().map(|letter| letter.body.len()).max();
        self.at_once = at_once_next(at_once, largest.unwrap_or(0));
        Ok(())
    }

    /// How many of those that were there at the beginning are not looked at yet.
    pub(crate) fn left(&self) -> usize {
        self.left as usize + self.ahead.len()
    }

    /// Takes dead letters out of their queue for good.
    pub(crate) async fn done(&self, tags: Vec<u64>) -> Result<(), CallError> {
        let options = BasicAckOptions { multiple: false };
        let acks = tags.into_iter().map(|tag| self.channel.basic_ack(tag, options));
        within(future::try_join_all(acks)).await?;
        Ok(())
    }

    /// Gives everything else back. When this returns the broker has it in its place again.
    pub(crate) async fn close(self) {
        let options = BasicNackOptions {
            multiple: true,
            requeue: true,
        };
        // Tag 0 is everything. The channel's end does the same, but on some kinds of queues only a moment later.
        if let Err(error) = within(self.channel.basic_nack(0, options)).await {
            tracing::debug!(%error, "could not give dead letters back");
        }
        close(self.channel).await;
    }
}

/// How many dead letters to ask for together after `before`, of which the largest body had `largest` bytes.
fn at_once_next(before: u32, largest: usize) -> u32 {
    let fit = u32::try_from(AHEAD_BYTES / largest.max(1)).unwrap_or(u32::MAX);
    fit.min(before.saturating_mul(2)).clamp(1, AHEAD_LETTERS)
}

fn missing(error: Error, tenant: TenantId) -> CallError {
    if error.reply_code() == Some(NOT_FOUND) {
        CallError::Unavailable(format!(
            "the dead-letter queue of tenant {tenant} is not there; try again"
        ))
    } else {
        error.into()
    }
}

/// Closes a channel that has done its work. One that is lost already needs no closing.
async fn close(channel: Channel) {
    if let Err(error) = within(channel.close(200, "done".into())).await {
        tracing::debug!(%error, "could not close a channel");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_are_asked_for_together_until_their_sizes_say_otherwise() {
        assert_eq!(at_once_next(1, 300), 2);
        assert_eq!(at_once_next(16, 300), AHEAD_LETTERS);
        assert_eq!(at_once_next(AHEAD_LETTERS, 0), AHEAD_LETTERS);
        assert_eq!(at_once_next(AHEAD_LETTERS, AHEAD_BYTES / 5), 5);
        assert_eq!(at_once_next(AHEAD_LETTERS, AHEAD_BYTES * 5), 1);
    }
}
