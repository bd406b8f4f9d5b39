//! Publishing dead letters, on a connection of its own: what blocks or closes it never touches the consumers.

use common::{
    broker::{Broker, Error as BrokerError, within},
    id::TenantId,
};
use lapin::{
    Channel, Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use tokio::sync::Mutex;

use super::Envelope;
use crate::delivery::DeadLetter;

/// Why a dead letter could not be published.
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

/// Publishes dead letters; shared by the shards.
#[derive(Debug)]
pub(crate) struct Publisher {
    broker: Broker,
    channel: Mutex<Option<Channel>>,
}

impl Publisher {
    pub(crate) fn new(broker: Broker) -> Self {
        Self {
            broker,
            channel: Mutex::new(None),
        }
    }

    /// Publishes a dead letter to its tenant's queue. `Ok` once the broker has it safe.
    pub(crate) async fn publish(&self, tenant: TenantId, letter: &DeadLetter) -> Result<(), Error> {
        let queue = tenant.dead_letter_queue();
        let channel = self.channel().await?;
        // Mandatory: without its queue the default exchange would drop it and confirm that.
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let properties = Envelope::of_dead_letter(letter);
        let confirmation = within(async {
            channel
                .basic_publish(
                    "".into(),
                    queue.as_str().into(),
                    options,
                    &letter.body,
                    properties,
                )
                .await?
                .await
        });
        match confirmation.await? {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(_)) => Err(Error::Unroutable(queue)),
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
        let channel = link.channel().await?;
        within(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(slot.insert(channel).clone())
    }
}
