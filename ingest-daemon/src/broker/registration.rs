//! How a consumer is registered without closing the channel that lanes share.
//!
//! Consuming a queue that is not there would close it, so whether it exists is asked on another channel just before. So
//! would consuming one that somebody holds exclusively: where others consume already, it is tried on a channel of its own
//! first, which may redeliver a message.

use std::{pin::pin, time::Duration};

use common::{
    broker::{Channels, Error, Link, REQUEST_TIMEOUT, within},
    id::TenantId,
};
use futures::future;
use lapin::{
    Channel, Consumer, Queue,
    options::{BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::time::timeout;
use tracing::warn;

/// A consumer's priority, and that of one on trial: it gets nothing while another takes it.
const NORMAL: i32 = 0;
const TRIAL: i32 = -1_000;

/// How much later than the connection's a late channel's answer may come.
const BEHIND_OTHERS: Duration = Duration::from_secs(1);

/// A consumer that is wanted.
pub(super) struct Wanted {
    /// Of whose queue.
    pub(super) tenant: TenantId,
    /// How many messages it may hold.
    pub(super) prefetch: u16,
    /// When to try it on a channel of its own first.
    pub(super) trial: Trial,
}

/// When a consumer is tried on a channel of its own before it is registered on the one that lanes share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trial {
    /// Where somebody consumes the queue: they may hold it exclusively.
    IfConsumed,
    /// It replaces one of ours, beside which nobody can hold the queue. A quorum queue counts that one until everything is
    /// settled that it brought.
    Never,
    /// Only look whether the queue is there: it was not, or could not be consumed. One that is just being made is there
    /// before its process is, and RabbitMQ 3.10 closes the connection of whoever consumes a quorum queue then.
    Look,
    /// Whatever the queue says: the channel was closed over it once. Somebody may wait for the moment between two of our
    /// consumers.
    Always,
}

/// Makes sure, as far as that can be known beforehand, that consuming a queue does not close the channel.
pub(super) async fn is_safe(probes: &Channels, wanted: &Wanted) -> Result<(), Error> {
    let queue = probed(probes, wanted.tenant).await?;
    let tried = match wanted.trial {
        Trial::IfConsumed => queue.consumer_count() > 0,
        Trial::Never | Trial::Look => false,
        Trial::Always => true,
    };
    if tried {
        let trial = probes.take().await?;
        within(consume(&trial, wanted.tenant, "", 1, TRIAL)).await?;
        // What it may have got goes back to the queue.
        let _ = within(trial.close(200, "done".into())).await;
    }
    Ok(())
}

/// Answers the tenant's queue if it is there.
pub(super) async fn probed(probes: &Channels, tenant: TenantId) -> Result<Queue, Error> {
    let probe = probes.take().await?;
    // Passive: only the control plane declares queues; declaring one here could bring a deleted one back.
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let queue = within(probe.queue_declare(tenant.queue().into(), options, FieldTable::default())).await?;
    probe.done();
    Ok(queue)
}

/// Registers the consumer that is wanted.
pub(super) async fn register(
    link: &Link,
    channel: &Channel,
    wanted: &Wanted,
    tag: &str,
) -> Result<Consumer, Error> {
    answered(
        link,
        consume(channel, wanted.tenant, tag, wanted.prefetch, NORMAL),
    )
    .await
}

/// Awaits a request on the channel that lanes share. To give that up redelivers what all of them have, and sends again
/// what is being published of it: so it is late only where the connection answers otherwise. Where nothing is answered
/// at all heartbeats judge the connection.
pub(super) async fn answered<T>(
    link: &Link,
    request: impl Future<Output = lapin::Result<T>>,
) -> Result<T, Error> {
    let mut request = pin!(request);
    let mut patience = REQUEST_TIMEOUT;
    loop {
        if let Ok(answer) = timeout(patience, &mut request).await {
            return Ok(answer?);
        }
        if patience == BEHIND_OTHERS {
            return Err(Error::Timeout);
        }
        warn!("RabbitMQ has not answered for {} s", REQUEST_TIMEOUT.as_secs());
        if link.channel().await.is_ok() {
            patience = BEHIND_OTHERS;
        }
    }
}

async fn consume(
    channel: &Channel,
    tenant: TenantId,
    tag: &str,
    prefetch: u16,
    priority: i32,
) -> lapin::Result<Consumer> {
    // Per consumer: `global` would bound the channel, which all its tenants share. It holds for the consumers that
    // are registered after it, so the two requests must follow each other on the channel: `join` polls them in this
    // order and at once, and they are queued when first polled.
    let qos = channel.basic_qos(prefetch, BasicQosOptions { global: false });
    let options = BasicConsumeOptions {
        no_ack: false,    // acknowledged after the commit
        exclusive: false, // a tenant may be spread over daemons, and overlaps while it moves
        no_local: false,  // RabbitMQ does not know it
        nowait: false,    // the lane runs once the broker says so
    };
    let mut arguments = FieldTable::default();
    if priority != NORMAL {
        arguments.insert("x-priority".into(), AMQPValue::LongInt(priority));
    }
    let consumer = channel.basic_consume(tenant.queue().into(), tag.into(), options, arguments);
    let (qos, consumer) = future::join(qos, consumer).await;
    qos.and(consumer)
}

/// What a refused consumer is told an operator.
pub(super) fn refusal(tenant: TenantId, error: &Error) -> String {
    let queue = tenant.queue();
    match error.reply_code() {
        Some(404) => {
            format!("the queue {queue} does not exist; it is declared again as long as its tenant lives")
        }
        Some(403) => format!(
            "the broker does not let the queue {queue} be consumed: another consumer holds it exclusively, or this \
             user may not read it ({error})"
        ),
        Some(405) => format!(
            "the queue {queue} belongs to another connection exclusively: close that, and delete the queue"
        ),
        _ => format!("the queue {queue} cannot be consumed: {error}"),
    }
}
