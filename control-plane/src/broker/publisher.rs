//! Publishing with confirms: a message counts once the broker has it on disk, and in a queue.

use std::sync::Arc;

use common::{
    broker::{Broker, Error, Link, REQUEST_TIMEOUT, within},
    id::TenantId,
};
use futures::future;
use lapin::{
    BasicProperties, Channel,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::error::Error as CallError;

/// A persistent message, by AMQP's numbering.
const PERSISTENT: u8 = 2;
/// Milliseconds since 1970 when a message was published.
const PUBLISHED_AT: &str = "x-jalur-published-at";

/// A message on its way to a tenant's queue.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(super) body: Vec<u8>,
    pub(super) properties: BasicProperties,
}

impl Outgoing {
    /// A new message, published at `now_ms`.
    pub(crate) fn new(id: Uuid, body: String, now_ms: i64) -> Self {
        let mut headers = FieldTable::default();
        headers.insert(PUBLISHED_AT.into(), AMQPValue::LongLongInt(now_ms));
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_message_id(id.to_string().into())
            .with_headers(headers);
        Self::with_properties(body.into_bytes(), properties)
    }

    /// A message with properties of its own; persistent whatever they say.
    pub(super) fn with_properties(body: Vec<u8>, properties: BasicProperties) -> Self {
        Self {
            body,
            properties: properties.with_delivery_mode(PERSISTENT),
        }
    }
}

/// Publishes on one channel, which is opened again when it is lost.
#[derive(Clone, Debug)]
pub(crate) struct Publisher {
    broker: Broker,
    channel: Arc<Mutex<Option<Open>>>,
}

#[derive(Clone, Debug)]
struct Open {
    link: Arc<Link>,
    channel: Channel,
}

impl Publisher {
    pub(crate) fn new(broker: Broker) -> Self {
        Self {
            broker,
            channel: Arc::default(),
        }
    }

    /// Publishes to a tenant's queue and returns once the broker has confirmed every message. After an error some
    /// may have been taken: publishing them again under their ids is harmless.
    pub(crate) async fn publish(&self, tenant: TenantId, messages: Vec<Outgoing>) -> Result<(), CallError> {
        let open = self.open().await?;
        let result = tokio::time::timeout(REQUEST_TIMEOUT, send(&open.channel, tenant, messages)).await;
        match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error),
            Err(_) if open.link.blocked() => Err(CallError::Unavailable(
                "RabbitMQ takes no messages at the moment: it is short of memory or disk; try again".into(),
            )),
            Err(_) => Err(Error::Timeout.into()),
        }
    }

    async fn open(&self) -> Result<Open, Error> {
        let mut slot = self.channel.lock().await;
        if let Some(open) = slot.as_ref().filter(|open| open.channel.status().connected()) {
            return Ok(open.clone());
        }
        let link = self.broker.link().await?;
        let channel = link.channel().await?;
        within(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(slot.insert(Open { link, channel }).clone())
    }
}

async fn send(channel: &Channel, tenant: TenantId, messages: Vec<Outgoing>) -> Result<(), CallError> {
    // `mandatory`: the default exchange returns what has no queue, instead of dropping it.
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let queue = tenant.queue();
    let mut confirms = Vec::with_capacity(messages.len());
    for message in messages {
        let publish = channel.basic_publish(
            "".into(),
            queue.as_str().into(),
            options,
            &message.body,
            message.properties,
        );
        confirms.push(publish.await.map_err(Error::from)?);
    }
    for confirm in future::try_join_all(confirms).await.map_err(Error::from)? {
        if confirm.is_nack() {
            return Err(CallError::Unavailable(
                "RabbitMQ refused a message; try again".into(),
            ));
        }
        if confirm.take_message().is_some() {
            return Err(CallError::Unavailable(format!(
                "the queue of tenant {tenant} is not there; try again"
            )));
        }
    }
    Ok(())
}
