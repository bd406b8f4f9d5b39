//! Publishing to tenants' queues.

use std::time::Duration;

use common::{
    broker::{Broker, Held, REQUEST_TIMEOUT, publisher},
    id::TenantId,
};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use uuid::Uuid;

use super::Queues;
use crate::error::Error as CallError;

/// A persistent message, by AMQP's numbering.
const PERSISTENT: u8 = 2;
/// Milliseconds since 1970 when a message was published.
const PUBLISHED_AT: &str = "x-jalur-published-at";
/// How many calls publish at once; others wait. A confirm takes the broker some milliseconds, so that is thousands a
/// second; and a channel costs the broker 50 kB.
const CALLS_MAX: usize = 64;
/// How long a call may take.
const PATIENCE: Duration = REQUEST_TIMEOUT;

/// A message on its way to a tenant's queue.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(super) body: Vec<u8>,
    pub(super) properties: BasicProperties,
    /// The memory that is counted for it, until the broker has it.
    pub(super) held: Held,
}

impl Outgoing {
    /// A new message, published at `now_ms`, with the headers of the `trace` that it is in.
    pub(crate) fn new(id: Uuid, body: String, now_ms: i64, trace: &[(String, String)]) -> Self {
        let mut headers = FieldTable::default();
        headers.insert(PUBLISHED_AT.into(), AMQPValue::LongLongInt(now_ms));
        for (name, value) in trace {
            headers.insert(name.as_str().into(), AMQPValue::LongString(value.as_str().into()));
        }
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
            held: Held::default(),
        }
    }
}

/// Publishes to tenants' queues; a handle.
#[derive(Clone, Debug)]
pub(crate) struct Publisher {
    publisher: publisher::Publisher,
    queues: Queues,
}

impl Publisher {
    /// Publishes over `broker`, and asks `queues` why one refuses.
    pub(crate) fn new(broker: Broker, queues: Queues) -> Self {
        Self {
            publisher: publisher::Publisher::new(broker, CALLS_MAX, Some(PATIENCE)),
            queues,
        }
    }

    /// Publishes to a tenant's queue and returns once the broker has confirmed every message. After an error some
    /// may have been taken: publishing them again under their ids is harmless. `limited`: whether it is known that there
    /// is a limit on what may wait there.
    pub(crate) async fn publish(
        &self,
        tenant: TenantId,
        limited: bool,
        messages: Vec<Outgoing>,
    ) -> Result<(), CallError> {
        let route = publisher::Route::queue(tenant.queue());
        let message = |message: Outgoing| {
            let sent = publisher::Message {
                body: message.body.into(),
                properties: message.properties,
            };
            (sent, message.held)
        };
        let (messages, _held): (Vec<_>, Vec<_>) = messages.into_iter().map(message).unzip();
        match self.publisher.publish(&route, messages).await {
            Ok(()) => Ok(()),
            Err(publisher::Error::Broker(error)) => Err(error.into()),
            Err(publisher::Error::Unroutable(_)) => Err(CallError::NoQueue(tenant.queue())),
            Err(publisher::Error::Refused) => Err(self.refused(tenant, limited).await),
        }
    }

    /// Why a tenant's queue refuses messages. The broker does not say: it refuses for a full queue, for one whose process
    /// has failed and for one that is just being deleted. A queue that answers and has something is full.
    async fn refused(&self, tenant: TenantId, limited: bool) -> CallError {
        match self.queues.waiting(tenant).await {
            Ok(Some(0)) if limited => CallError::Full(format!(
                "the queue of tenant {tenant} was full, and is empty by now: its limit (backlog_messages or backlog_bytes) \
                 holds less than was sent at once; send again, fewer in a call, or have the limit raised"
            )),
            Ok(Some(0)) => CallError::Unavailable(format!(
                "RabbitMQ refused messages to the queue of tenant {tenant}, which is empty by now: it is just being made, or \
                 a max-length of RabbitMQ's own holds less than was sent at once; send again, fewer in a call"
            )),
            Ok(Some(waiting)) => CallError::Full(format!(
                "the queue of tenant {tenant} is full: {waiting} messages wait, and its limit (backlog_messages or \
                 backlog_bytes, or a max-length of RabbitMQ's own) refuses more; send again when some are stored, or have the \
                 limit raised"
            )),
            Ok(None) => CallError::NoQueue(tenant.queue()),
            Err(error) => CallError::Unavailable(format!(
                "RabbitMQ refuses messages to the queue of tenant {tenant}: {error}; try again"
            )),
        }
    }
}
