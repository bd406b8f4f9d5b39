//! Tenants' dead-letter queues: read, replayed and purged.

use common::{
    broker::{Broker, Error, within},
    id::TenantId,
};
use lapin::{Channel, options::QueuePurgeOptions};

use super::{
    Publisher, Reader,
    reader::{close, explained},
};
use crate::error::Error as CallError;

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
        Reader::begin(self.channel().await?, tenant, tenant.dead_letter_queue()).await
    }

    /// Deletes a tenant's dead letters and answers how many those were.
    pub(crate) async fn purge(&self, tenant: TenantId) -> Result<u32, CallError> {
        let channel = self.channel().await?;
        let purge = channel.queue_purge(tenant.dead_letter_queue().into(), QueuePurgeOptions::default());
        let purged = within(purge).await.map_err(|error| explained(error, tenant))?;
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
