//! The queues in which refused messages wait: one per delay, shared by all tenants.
//!
//! A fanout exchange before each keeps the routing key, which is the tenant's queue and the way home; published to the
//! delay queue by the default exchange a message would lose it. `returns` brings it back. Each delay is written down
//! before its queue is there, so that what waits is brought back after the delay is configured no more.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use common::{
    broker::{Error, Link, within},
    config::QueueType,
};
use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::sync::Mutex;
use tracing::{debug, warn};

use crate::retry::{Policy, Store};

/// The name of a delay's exchange, and of its queue.
pub(super) fn name(delay: Duration) -> String {
    format!("jalur.retry.{}ms", delay.as_millis())
}

/// The delays that are configured, and their queues.
#[derive(Debug)]
pub(crate) struct Delays {
    configured: Vec<Duration>,
    queue_type: QueueType,
    store: Store,
    declared: Mutex<Declared>,
}

/// What is done already.
#[derive(Debug, Default)]
struct Declared {
    written_down: bool,
    /// The connections on which the queues were declared last.
    on: Vec<Weak<Link>>,
}

impl Delays {
    pub(crate) fn new(policy: &Policy, queue_type: QueueType, store: Store) -> Self {
        let mut configured = policy.delays().to_vec();
        configured.sort_unstable();
        configured.dedup();
        Self {
            configured,
            queue_type,
            store,
            declared: Mutex::default(),
        }
    }

    pub(super) fn configured(&self) -> &[Duration] {
        &self.configured
    }

    /// All that there have ever been.
    pub(super) async fn known(&self) -> sqlx::Result<Vec<Duration>> {
        let known = self.store.add(&self.configured).await?;
        self.declared.lock().await.written_down = true;
        Ok(known)
    }

    /// Has the queues of the configured ones, once a connection. One at a time: RabbitMQ 3.10 may fail over quorum queues
    /// that are made at once.
    pub(super) async fn declare(&self, link: &Arc<Link>) -> Result<(), Error> {
        let mut declared = self.declared.lock().await;
        declared.on.retain(|link| link.strong_count() > 0);
        if declared
            .on
            .iter()
            .any(|known| known.as_ptr() == Arc::as_ptr(link))
        {
            return Ok(());
        }
        if !declared.written_down {
            self.store.add(&self.configured).await.map_err(|error| {
                debug!(%error, "the delays cannot be written down yet");
                Error::Down
            })?;
            declared.written_down = true;
        }
        for &delay in &self.configured {
            declare(link, &name(delay), self.queue_type).await?;
        }
        declared.on.push(Arc::downgrade(link));
        Ok(())
    }

    /// One of the queues is gone: they are declared anew.
    pub(super) async fn missing(&self) {
        self.declared.lock().await.on.clear();
    }
}

/// Declares what is missing. What the broker refuses is said and passed over: the queue may be there with other
/// arguments, from before `rabbitmq.queue_type` was changed, and does as well; and dead letters need none of it.
async fn declare(link: &Link, queue: &str, queue_type: QueueType) -> Result<(), Error> {
    // Of its own: an error closes it.
    let channel = link.channel().await?;
    match within(declare_on(&channel, queue, arguments(queue_type))).await {
        Err(error) if error.is_refusal() => {
            warn!(
                %error,
                queue,
                "a delay queue is not as it should be; delete it in RabbitMQ once it is empty, and it is made anew"
            );
        }
        declared => declared?,
    }
    // Closed by its drop, too, which nobody waits for.
    let _ = within(channel.close(200, "done".into())).await;
    Ok(())
}

async fn declare_on(channel: &Channel, name: &str, arguments: FieldTable) -> lapin::Result<()> {
    let exchange = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let kind = ExchangeKind::Fanout;
    channel
        .exchange_declare(name.into(), kind, exchange, FieldTable::default())
        .await?;
    let queue = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel.queue_declare(name.into(), queue, arguments).await?;
    channel
        .queue_bind(
            name.into(),
            name.into(),
            "".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
}

/// Nothing in it expires: RabbitMQ would not wait for the word of where it goes then, and its way to do so anyway
/// (`x-dead-letter-strategy`) takes a queue's process with it when its own worker fails (3.10).
fn arguments(queue_type: QueueType) -> FieldTable {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let mut arguments = FieldTable::default();
    // Should an operator's policy bound it, nothing is dropped for that.
    arguments.insert("x-overflow".into(), text("reject-publish"));
    if queue_type == QueueType::Quorum {
        arguments.insert("x-queue-type".into(), text("quorum"));
        // As tenants' queues have it: 3.10 takes -1, which RabbitMQ 4 takes for unlimited, for none at all.
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(1_000_000));
    }
    arguments
}
