//! Publishing what failed, on a connection of its own: what blocks or closes it never touches the consumers.

use common::{
    broker::{Broker, Error as BrokerError, within},
    config::QueueType,
    id::TenantId,
};
use lapin::{
    Channel, Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use tokio::sync::Mutex;

use super::{Envelope, delays};
use crate::{
    delivery::{Destination, Letter},
    retry::Policy,
};

/// Why a message could not be published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The broker failed.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The broker takes no messages at the moment. Publishing all the same would pile them up in the socket.
    #[error("RabbitMQ takes no messages at the moment")]
    Blocked,
    /// There is no such queue.
    #[error("there is no queue {0}")]
    Unroutable(String),
    /// The broker could not take responsibility for it.
    #[error("RabbitMQ refused the message")]
    Refused,
}

/// Publishes to dead-letter and delay queues; shared by the shards.
#[derive(Debug)]
pub(crate) struct Publisher {
    broker: Broker,
    retry: Policy,
    /// What delay queues are.
    queue_type: QueueType,
    channel: Mutex<Option<Channel>>,
}

impl Publisher {
    pub(crate) fn new(broker: Broker, retry: Policy, queue_type: QueueType) -> Self {
        Self {
            broker,
            retry,
            queue_type,
            channel: Mutex::new(None),
        }
    }

    /// Publishes a letter to where it is to go. `Ok` once the broker has it safe.
    pub(crate) async fn publish(&self, tenant: TenantId, letter: &Letter) -> Result<(), Error> {
        let (exchange, key) = match letter.to {
            Destination::DeadLetters => (String::new(), tenant.dead_letter_queue()),
            Destination::Delay(delay) => (delays::name(delay), tenant.queue()),
        };
        let channel = self.channel().await?;
        // Mandatory: without its queue the exchange would drop it and confirm that.
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let properties = Envelope::of_letter(letter);
        let confirmation = within(async {
            channel
                .basic_publish(
                    exchange.as_str().into(),
                    key.as_str().into(),
                    options,
                    &letter.body,
                    properties,
                )
                .await?
                .await
        });
        match confirmation.await? {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(_)) if exchange.is_empty() => Err(Error::Unroutable(key)),
            Confirmation::Ack(Some(_)) => {
                // Somebody deleted the delay's queue: the next channel declares it again.
                self.channel.lock().await.take();
                Err(Error::Unroutable(exchange))
            }
            Confirmation::Nack(_) | Confirmation::NotRequested => Err(Error::Refused),
        }
    }

    async fn channel(&self) -> Result<Channel, Error> {
        // Before the lock: during an outage all wait at once, not one after the other.
        let link = self.broker.link().await?;
        if link.blocked() {
            return Err(Error::Blocked);
        }
        let mut slot = self.channel.lock().await;
        if let Some(channel) = slot.as_ref().filter(|channel| channel.status().connected()) {
            return Ok(channel.clone());
        }
        delays::declare(&link, self.retry.delays(), self.queue_type).await?;
        let channel = link.channel().await?;
        within(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(slot.insert(channel).clone())
    }
}
