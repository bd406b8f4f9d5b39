//! Dead-letter queues: read without changing them, and purged.

use common::{
    broker::{Broker, Error, within},
    id::TenantId,
};
use lapin::{
    Channel,
    options::{BasicAckOptions, BasicGetOptions, BasicNackOptions, QueueDeclareOptions, QueuePurgeOptions},
    types::FieldTable,
};

use super::{Letter, Publisher, queues::close};
use crate::error::Error as CallError;

/// The reply code of a queue that is not there.
const NOT_FOUND: u16 = 404;

/// Tenants' dead-letter queues.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetterQueues {
    queues: Broker,
    publishing: Broker,
}

impl DeadLetterQueues {
    /// Reads over one connection and publishes over another: a broker that is short of memory stops reading from
    /// those that publish.
    pub(crate) fn new(queues: Broker, publishing: Broker) -> Self {
        Self { queues, publishing }
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

    /// A publisher with a channel of its own: what the broker objects to in somebody's properties closes no channel
    /// that others publish on.
    pub(crate) fn publisher(&self) -> Publisher {
        Publisher::new(self.publishing.clone())
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
    /// How many of those that were there at the beginning are still unread: what arrives meanwhile is not chased.
    left: u32,
}

impl Reader {
    /// The next dead letter.
    pub(crate) async fn next(&mut self) -> Result<Option<Letter>, CallError> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        let options = BasicGetOptions { no_ack: false };
        let got = within(self.channel.basic_get(self.queue.as_str().into(), options)).await;
        let got = got.map_err(|error| missing(error, self.tenant))?;
        // None: somebody else has taken the rest.
        self.left = if got.is_some() { left } else { 0 };
        Ok(got.map(|message| {
            let delivery = message.delivery;
            Letter::new(delivery.delivery_tag, delivery.data, delivery.properties)
        }))
    }

    /// How many of those that were there at the beginning are still unread.
    pub(crate) fn left(&self) -> u32 {
        self.left
    }

    /// Takes a dead letter out of its queue for good.
    pub(crate) async fn done(&self, tag: u64) -> Result<(), CallError> {
        let options = BasicAckOptions { multiple: false };
        Ok(within(self.channel.basic_ack(tag, options)).await?)
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

fn missing(error: Error, tenant: TenantId) -> CallError {
    if error.reply_code() == Some(NOT_FOUND) {
        CallError::Unavailable(format!(
            "the dead-letter queue of tenant {tenant} is not there; try again"
        ))
    } else {
        error.into()
    }
}
