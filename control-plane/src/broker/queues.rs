//! Tenants' queues: declared, deleted and counted. Only the control plane declares them, so that a daemon can never
//! bring a deleted one back.

use std::collections::HashMap;

use common::{
    broker::{self, Broker, Channels, Purpose, within},
    config::QueueType,
    id::TenantId,
};
use lapin::{
    ExchangeKind,
    options::{
        ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};

use super::{
    in_hand::InHand,
    refusal::{self, Refusal},
};

/// There is no such queue.
const NOT_FOUND: u16 = 404;
/// How many of these calls go on at once: each takes a millisecond.
const CALLS_MAX: usize = 16;
/// Unlimited, on every version: RabbitMQ 4 drops a message after 20 redeliveries unless told otherwise, and 3.10 takes
/// -1 for none at all. Ours leave a queue only when they are stored or dead-lettered.
const DELIVERY_LIMIT: i32 = 1_000_000;

/// Why something could not be done with a queue.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// RabbitMQ failed.
    #[error(transparent)]
    Broker(#[from] broker::Error),
    /// A queue of that name is there, and is not the one that was asked for. Trying again changes nothing.
    #[error(
        "the queue {queue} is there, but not as it should be: {detail}; let it run empty and delete it in RabbitMQ, and it is made anew"
    )]
    Mismatch {
        /// Its name.
        queue: String,
        /// What is different.
        detail: String,
        /// Whether messages can be taken in through it all the same.
        usable: bool,
    },
    /// An exchange of that name cannot be had as it is to be. Trying again changes nothing.
    #[error(
        "the exchange {exchange} is not as it should be: {detail}; delete it in RabbitMQ, and it is made anew"
    )]
    Exchange {
        /// Its name.
        exchange: String,
        /// What is different.
        detail: String,
    },
    /// There is no such queue, and RabbitMQ makes none. Trying again changes nothing.
    #[error("RabbitMQ does not make the queue {queue}: {detail}")]
    Refused {
        /// Its name.
        queue: String,
        /// Why, and what to do.
        detail: String,
        /// Whether it closes the connection over it, which all tenants share.
        costly: bool,
    },
}

impl Error {
    /// Whether messages can be taken in all the same.
    pub(crate) fn is_usable(&self) -> bool {
        matches!(self, Self::Mismatch { usable: true, .. })
    }

    /// Whether trying again closes the connection that all tenants share.
    pub(crate) fn is_costly(&self) -> bool {
        matches!(self, Self::Refused { costly: true, .. })
    }
}

/// How many messages wait; `None` where there is no such queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Depth {
    /// In the tenant's queue.
    pub(crate) queue: Option<u32>,
    /// In its dead-letter queue, or in the hands of whoever reads it.
    pub(crate) dead_letters: Option<u32>,
}

impl Depth {
    /// The same with so many more that have left the queue and are not stored yet.
    pub(crate) fn with_held(self, held: u32) -> Self {
        Self {
            queue: self.queue.map(|queue| queue.saturating_add(held)),
            ..self
        }
    }
}

/// Tenants' queues; a handle. Each request to the broker has a channel to itself.
#[derive(Clone, Debug)]
pub(crate) struct Queues {
    channels: Channels,
    queue_type: QueueType,
    in_hand: InHand,
}

impl Queues {
    pub(crate) fn new(broker: Broker, queue_type: QueueType) -> Self {
        Self {
            channels: Channels::new(broker, Purpose::Asking, CALLS_MAX),
            queue_type,
            in_hand: InHand::default(),
        }
    }

    /// Where whoever reads dead letters says what it has of them, so that they are counted.
    pub(crate) fn in_hand(&self) -> InHand {
        self.in_hand.clone()
    }

    /// Declares both of a tenant's queues, and its exchange; where they are, nothing changes.
    pub(crate) async fn declare(&self, tenant: TenantId) -> Result<(), Error> {
        // Each whatever comes of the others.
        let made = [
            self.declare_one(tenant.queue()).await,
            self.declare_one(tenant.dead_letter_queue()).await,
            self.declare_exchange(tenant).await,
        ];
        let mut errors: Vec<_> = made.into_iter().filter_map(Result::err).collect();
        // What stops the tenant first, and of the rest the last: dead letters are put right before the queue that fills
        // them.
        let grave = errors.iter().position(|error| !error.is_usable());
        match grave.or(errors.len().checked_sub(1)) {
            Some(at) => Err(errors.swap_remove(at)),
            None => Ok(()),
        }
    }

    /// A fanout exchange asks for no routing key, neither the message's own nor those in its CC and BCC headers, so what
    /// comes there goes to what is bound to it and nowhere else: to the tenant's queue.
    async fn declare_exchange(&self, tenant: TenantId) -> Result<(), Error> {
        let channel = self.channels.take().await?;
        let exchange = tenant.exchange();
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        let name = || exchange.as_str().into();
        let declared = channel.exchange_declare(name(), ExchangeKind::Fanout, options, FieldTable::default());
        if let Err(error) = within(declared).await {
            let detail = match error.reply_code() {
                Some(refusal::DIFFERS) => refusal::difference(&error.to_string()),
                Some(refusal::ACCESS_REFUSED) => {
                    "RabbitMQ's user may not make it; grant it configure, write and read (rabbitmqctl set_permissions)".into()
                }
                _ => return Err(error.into()),
            };
            return Err(Error::Exchange { exchange, detail });
        }
        let bound = channel.queue_bind(
            tenant.queue().into(),
            name(),
            "".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        match within(bound).await {
            Ok(()) => {
                channel.done();
                Ok(())
            }
            // The queue is not there: that is said of the queue.
            Err(error) if error.reply_code() == Some(NOT_FOUND) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn declare_one(&self, queue: String) -> Result<(), Error> {
        let channel = self.channels.take().await?;
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let declared = within(channel.queue_declare(queue.as_str().into(), options, self.arguments())).await;
        match declared {
            Ok(_) => {
                channel.done();
                Ok(())
            }
            Err(error) => match refusal::of(&error, &queue) {
                None => Err(error.into()),
                Some(Refusal::Differs(detail)) => {
                    // A stream gives its messages to whoever asks and keeps them all: nothing of it is ever done.
                    let usable = !detail.contains("x-queue-type is stream")
                        && self.count(queue.clone()).await?.is_some();
                    Err(Error::Mismatch {
                        queue,
                        detail,
                        usable,
                    })
                }
                Some(Refusal::Impossible { detail, costly }) => Err(Error::Refused {
                    queue,
                    detail,
                    costly,
                }),
            },
        }
    }

    fn arguments(&self) -> FieldTable {
        let mut arguments = FieldTable::default();
        if self.queue_type == QueueType::Quorum {
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
            arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(DELIVERY_LIMIT));
        }
        arguments
    }

    /// Deletes both of a tenant's queues, whatever is in them, and its exchange; what is gone already is no error.
    pub(crate) async fn delete(&self, tenant: TenantId) -> Result<(), broker::Error> {
        let channel = self.channels.take().await?;
        let options = ExchangeDeleteOptions::default();
        match within(channel.exchange_delete(tenant.exchange().into(), options)).await {
            Ok(()) => channel.done(),
            Err(error) if error.reply_code() == Some(NOT_FOUND) => {}
            Err(error) => return Err(error),
        }
        for queue in [tenant.queue(), tenant.dead_letter_queue()] {
            let channel = self.channels.take().await?;
            match within(channel.queue_delete(queue.into(), QueueDeleteOptions::default())).await {
                Ok(_) => channel.done(),
                Err(error) if error.reply_code() == Some(NOT_FOUND) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// How many messages wait in a tenant's queues. Without a connection the answer is an error at once: whoever reads
    /// a tenant does not wait for the broker.
    pub(crate) async fn depth(&self, tenant: TenantId) -> Result<Depth, broker::Error> {
        let queue = self.count(tenant.queue()).await?;
        let before = self.in_hand.before(tenant);
        let ready = self.count(tenant.dead_letter_queue()).await?;
        Ok(Depth {
            queue,
            dead_letters: ready.map(|ready| self.in_hand.count(tenant, before, ready)),
        })
    }

    /// How many messages wait in a tenant's queue; `None` if that is not there.
    pub(crate) async fn waiting(&self, tenant: TenantId) -> Result<Option<u32>, broker::Error> {
        self.count(tenant.queue()).await
    }

    /// How many messages wait in the queues of many tenants, one after another. A tenant whose queues the broker
    /// cannot count, because they are being deleted, say, is left out.
    pub(crate) async fn depths(
        &self,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, Depth>, broker::Error> {
        let mut depths = HashMap::with_capacity(tenants.len());
        for &tenant in tenants {
            match self.depth(tenant).await {
                Ok(depth) => {
                    depths.insert(tenant, depth);
                }
                Err(error) if error.reply_code().is_some() => {
                    tracing::debug!(%tenant, %error, "a tenant's queues cannot be counted");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(depths)
    }

    /// A passive declare: how many messages wait in a queue.
    async fn count(&self, queue: String) -> Result<Option<u32>, broker::Error> {
        let channel = self.channels.take().await?;
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        match within(channel.queue_declare(queue.into(), options, FieldTable::default())).await {
            Ok(queue) => {
                let count = queue.message_count();
                channel.done();
                Ok(Some(count))
            }
            Err(error) if error.reply_code() == Some(NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
