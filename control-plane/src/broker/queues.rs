//! Tenants' queues: declared, deleted and counted. Only the control plane declares them, so that a daemon can never
//! bring a deleted one back.

use std::collections::HashMap;

use common::{
    broker::{Broker, Error, within},
    config::QueueType,
    id::TenantId,
};
use lapin::{
    Channel,
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};

/// The reply code of a queue that is not there.
const NOT_FOUND: u16 = 404;

/// How many messages wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Depth {
    /// In the tenant's queue.
    pub(crate) queue: u32,
    /// In its dead-letter queue.
    pub(crate) dead_letters: u32,
}

/// Tenants' queues. Every operation has a channel of its own: an error closes it, and nothing else.
#[derive(Clone, Debug)]
pub(crate) struct Queues {
    broker: Broker,
    queue_type: QueueType,
}

impl Queues {
    pub(crate) fn new(broker: Broker, queue_type: QueueType) -> Self {
        Self { broker, queue_type }
    }

    /// Declares both of a tenant's queues; where they are, nothing changes.
    pub(crate) async fn declare(&self, tenant: TenantId) -> Result<(), Error> {
        let channel = self.channel().await?;
        for queue in [tenant.queue(), tenant.dead_letter_queue()] {
            let options = QueueDeclareOptions {
                durable: true,
                ..QueueDeclareOptions::default()
            };
            within(channel.queue_declare(queue.into(), options, self.arguments())).await?;
        }
        close(channel).await;
        Ok(())
    }

    fn arguments(&self) -> FieldTable {
        let mut arguments = FieldTable::default();
        if self.queue_type == QueueType::Quorum {
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
            // RabbitMQ 4 drops a message after 20 redeliveries unless told otherwise; ours leave a queue only when
            // they are stored or dead-lettered.
            arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(-1));
        }
        arguments
    }

    /// Deletes both of a tenant's queues, whatever is in them; those that are gone already are no error.
    pub(crate) async fn delete(&self, tenant: TenantId) -> Result<(), Error> {
        let channel = self.channel().await?;
        for queue in [tenant.queue(), tenant.dead_letter_queue()] {
            within(channel.queue_delete(queue.into(), QueueDeleteOptions::default())).await?;
        }
        close(channel).await;
        Ok(())
    }

    /// How many messages wait in a tenant's queues. A queue that is not there has none. Without a connection the
    /// answer is an error at once: whoever reads a tenant does not wait for the broker.
    pub(crate) async fn depth(&self, tenant: TenantId) -> Result<Depth, Error> {
        if !self.broker.is_up() {
            return Err(Error::Down);
        }
        let mut counter = Counter {
            queues: self,
            channel: None,
        };
        let depth = counter.depth(tenant).await?;
        counter.close().await;
        Ok(depth)
    }

    /// How many messages wait in the queues of many tenants, counted one after another on one channel.
    pub(crate) async fn depths(&self, tenants: &[TenantId]) -> Result<HashMap<TenantId, Depth>, Error> {
        let mut counter = Counter {
            queues: self,
            channel: None,
        };
        let mut depths = HashMap::with_capacity(tenants.len());
        for &tenant in tenants {
            depths.insert(tenant, counter.depth(tenant).await?);
        }
        counter.close().await;
        Ok(depths)
    }

    async fn channel(&self) -> Result<Channel, Error> {
        self.broker.link().await?.channel().await
    }
}

/// Counts with passive declares, on a channel that is opened again when a missing queue has closed it.
struct Counter<'a> {
    queues: &'a Queues,
    channel: Option<Channel>,
}

impl Counter<'_> {
    async fn depth(&mut self, tenant: TenantId) -> Result<Depth, Error> {
        Ok(Depth {
            queue: self.count(tenant.queue()).await?,
            dead_letters: self.count(tenant.dead_letter_queue()).await?,
        })
    }

    async fn count(&mut self, queue: String) -> Result<u32, Error> {
        let channel = match &self.channel {
            Some(channel) => channel,
            None => self.channel.insert(self.queues.channel().await?),
        };
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        match within(channel.queue_declare(queue.into(), options, FieldTable::default())).await {
            Ok(queue) => Ok(queue.message_count()),
            Err(error) if error.reply_code() == Some(NOT_FOUND) => {
                self.channel = None;
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }

    async fn close(self) {
        if let Some(channel) = self.channel {
            close(channel).await;
        }
    }
}

/// Closes a channel that has done its work. One that is lost already needs no closing.
pub(super) async fn close(channel: Channel) {
    if let Err(error) = within(channel.close(200, "done".into())).await {
        tracing::debug!(%error, "could not close a channel");
    }
}
