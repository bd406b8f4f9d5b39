//! The queues in which refused messages wait: one per delay, shared by all tenants.
//!
//! A fanout exchange before each keeps the routing key, the tenant's queue, and the queue's dead-lettering to the
//! default exchange brings a message back there. So a deleted tenant's are dropped, and a paused one's wait in its
//! queue. Published to the delay queue by the default exchange they would lose the key, and the way home.

use std::time::Duration;

use common::{
    broker::{Error, Link, within},
    config::QueueType,
};
use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use tracing::warn;

/// The name of a delay's exchange, and of its queue.
pub(super) fn name(delay: Duration) -> String {
    format!("jalur.retry.{}ms", delay.as_millis())
}

/// Declares what is missing. What the broker refuses is said and passed over: the queue may be there with other
/// arguments, from before `rabbitmq.queue_type` was changed, and does as well; and dead letters need none of it.
pub(super) async fn declare(link: &Link, delays: &[Duration], queue_type: QueueType) -> Result<(), Error> {
    for &delay in delays {
        // Of its own: an error closes it.
        let channel = link.channel().await?;
        match within(declare_one(&channel, delay, queue_type)).await {
            Err(error) if error.reply_code().is_some() => {
                warn!(%error, queue = name(delay), "a delay queue cannot be declared");
            }
            declared => declared?,
        }
        // Closed by its drop, too, which nobody waits for.
        let _ = within(channel.close(200, "done".into())).await;
    }
    Ok(())
}

async fn declare_one(channel: &Channel, delay: Duration, queue_type: QueueType) -> lapin::Result<()> {
    let name = name(delay);
    let exchange = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let kind = ExchangeKind::Fanout;
    channel
        .exchange_declare(name.as_str().into(), kind, exchange, FieldTable::default())
        .await?;
    let queue = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(name.as_str().into(), queue, arguments(delay, queue_type))
        .await?;
    channel
        .queue_bind(
            name.as_str().into(),
            name.as_str().into(),
            "".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
}

fn arguments(delay: Duration, queue_type: QueueType) -> FieldTable {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let ms = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
    let mut arguments = FieldTable::default();
    arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(ms));
    arguments.insert("x-dead-letter-exchange".into(), text(""));
    if queue_type == QueueType::Quorum {
        arguments.insert("x-queue-type".into(), text("quorum"));
        // As tenants' queues have it: 3.10 takes -1, which RabbitMQ 4 takes for unlimited, for none at all.
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(1_000_000));
        // Dead-lettering stays at-most-once, the default: at-least-once keeps what has no queue to go to, and a few
        // dozen messages of deleted tenants would stop everybody's retries for good.
    }
    arguments
}
