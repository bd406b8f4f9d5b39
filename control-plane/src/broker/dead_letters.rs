//! Tenants' dead-letter queues: read, replayed and purged.

use common::{
    broker::{Broker, within},
    config::QueueType,
    id::TenantId,
};
use lapin::options::QueuePurgeOptions;

use super::{Publisher, Reader, in_hand::InHand, reader::explained, span::close};
use crate::error::Error as CallError;

/// Tenants' dead-letter queues.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetterQueues {
    queues: Broker,
    publisher: Publisher,
    in_hand: InHand,
    queue_type: QueueType,
}

impl DeadLetterQueues {
    /// What calls hold of letters together, which are as large as the broker takes them; and one letter beyond that.
    pub(crate) const BYTES_MAX: u64 = 64 << 20;

    /// Reads over one connection, which counts what is delivered, and publishes over another: a broker that is short
    /// of memory stops reading from those that publish.
    pub(crate) fn new(queues: Broker, publisher: Publisher, in_hand: InHand, queue_type: QueueType) -> Self {
        Self {
            queues,
            publisher,
            in_hand,
            queue_type,
        }
    }

    /// Begins to read the dead letters that a tenant has now.
    pub(crate) async fn read(&self, tenant: TenantId) -> Result<Reader, CallError> {
        let link = self.queues.link().await?;
        let is_quorum = self.queue_type == QueueType::Quorum;
        Reader::begin(link, tenant, is_quorum, &self.in_hand).await
    }

    /// Deletes a tenant's dead letters and answers how many those were.
    pub(crate) async fn purge(&self, tenant: TenantId) -> Result<u32, CallError> {
        let link = self.queues.link().await?;
        let channel = link.channel().await?;
        let purge = channel.queue_purge(tenant.dead_letter_queue().into(), QueuePurgeOptions::default());
        let purged = within(purge).await.map_err(|error| explained(error, tenant))?;
        close(channel).await;
        Ok(purged)
    }

    /// What publishes replays.
    pub(crate) fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }
}
