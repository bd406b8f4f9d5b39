//! The queues in which refused messages wait: one per delay, shared by all tenants.
//!
//! A fanout exchange before each keeps the routing key, which is the tenant's queue and the way home; published to the
//! delay queue by the default exchange a message would lose it. `returns` brings it back. Should no daemon do so, since
//! none has that delay in its configuration any more, it comes to one more queue after an hour, which all of them serve.

use std::{iter, time::Duration};

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

/// Where goes what nobody has brought back: that of a delay which is not configured any more. An exchange and a queue,
/// too.
pub(super) const OVERDUE: &str = "jalur.retry.overdue";
/// So long after its time. Longer than daemons are away for an update.
const OVERDUE_AFTER: Duration = Duration::from_secs(3_600);

/// The name of a delay's exchange, and of its queue.
pub(super) fn name(delay: Duration) -> String {
    format!("jalur.retry.{}ms", delay.as_millis())
}

/// Declares what is missing. What the broker refuses is said and passed over: the queue may be there with other
/// arguments, from an earlier version or from before `rabbitmq.queue_type` was changed, and does as well; and dead
/// letters need none of it.
pub(super) async fn declare(link: &Link, delays: &[Duration], queue_type: QueueType) -> Result<(), Error> {
    let overdue = (OVERDUE.to_owned(), arguments(None, queue_type));
    let delays = delays
        .iter()
        .map(|&delay| (name(delay), arguments(Some(delay), queue_type)));
    for (queue, arguments) in iter::once(overdue).chain(delays) {
        // Of its own: an error closes it.
        let channel = link.channel().await?;
        match within(declare_one(&channel, &queue, arguments)).await {
            Err(error) if error.reply_code().is_some() => {
                warn!(
                    %error,
                    queue,
                    "a delay queue is not as it is to be; delete it in RabbitMQ once it is empty, and it is made anew"
                );
            }
            declared => declared?,
        }
        // Closed by its drop, too, which nobody waits for.
        let _ = within(channel.close(200, "done".into())).await;
    }
    Ok(())
}

async fn declare_one(channel: &Channel, name: &str, arguments: FieldTable) -> lapin::Result<()> {
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

fn arguments(delay: Option<Duration>, queue_type: QueueType) -> FieldTable {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let mut arguments = FieldTable::default();
    if let Some(delay) = delay {
        let ms = i64::try_from((delay + OVERDUE_AFTER).as_millis()).unwrap_or(i64::MAX);
        arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(ms));
        arguments.insert("x-dead-letter-exchange".into(), text(OVERDUE));
    }
    if queue_type == QueueType::Quorum {
        arguments.insert("x-queue-type".into(), text("quorum"));
        // As tenants' queues have it: 3.10 takes -1, which RabbitMQ 4 takes for unlimited, for none at all.
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(1_000_000));
    }
    if delay.is_some() && queue_type == QueueType::Quorum {
        // Not before the other queue has it. That is always there, and nothing waits there for long.
        arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
        arguments.insert("x-overflow".into(), text("reject-publish"));
    }
    arguments
}
