//! Fills queues, with confirms: what is timed afterwards is there.

use anyhow::{Context as _, ensure};
use common::id::TenantId;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use lapin::{
    BasicProperties, Channel, Connection,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};
use tests::load;
use uuid::Uuid;

/// How many messages may wait for their confirm: enough that the broker is never waited for.
const WINDOW: usize = 1_000;

/// How much a consumer that is set beside Jalur holds of all its queues together: more makes the broker no faster.
pub(crate) const PREFETCH: usize = 2_000;
/// And of each at least. (100 queues: 200 are no faster, 2,000 slower.)
pub(crate) const PREFETCH_LEAST: usize = 50;

/// A queue and the tenant its messages name.
pub(crate) type Target = (String, TenantId);

/// The queues of tenants.
pub(crate) fn queues(tenants: &[TenantId]) -> Vec<Target> {
    tenants.iter().map(|&tenant| (tenant.queue(), tenant)).collect()
}

/// Publishes `count` persistent messages of about `bytes` bytes, to each of `targets` in turn.
pub(crate) async fn fill(
    connection: &Connection,
    targets: &[Target],
    count: usize,
    bytes: usize,
) -> anyhow::Result<()> {
    fill_with(connection, targets, count, bytes, |_, id| properties(id)).await
}

/// The same, with the properties that `properties` gives to each by its number and id.
pub(crate) async fn fill_with(
    connection: &Connection,
    targets: &[Target],
    count: usize,
    bytes: usize,
    properties: impl Fn(usize, Uuid) -> BasicProperties,
) -> anyhow::Result<()> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    stream::iter(0..count)
        .map(|number| {
            let (queue, tenant) = &targets[number % targets.len()];
            let body = load::body(*tenant, number, bytes);
            let id = Uuid::now_v7();
            publish(&channel, queue, properties(number, id), body)
        })
        .buffered(WINDOW)
        .try_collect::<()>()
        .await?;
    Ok(channel.close(200, "filled".into()).await?)
}

async fn publish(
    channel: &Channel,
    queue: &str,
    properties: BasicProperties,
    body: Vec<u8>,
) -> anyhow::Result<()> {
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let confirm = channel
        .basic_publish("".into(), queue.into(), options, &body, properties)
        .await?
        .await?;
    ensure!(
        confirm.is_ack() && confirm.take_message().is_none(),
        "the broker did not take a message for {queue}"
    );
    Ok(())
}

/// Those of a message that is stored exactly once.
pub(crate) fn properties(id: Uuid) -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type("application/json".into())
        .with_message_id(id.to_string().into())
}

/// A message's id, as published here.
pub(crate) fn id(properties: &BasicProperties) -> anyhow::Result<Uuid> {
    let id = properties.message_id().as_ref().context("a message has no id")?;
    Ok(id.as_str().parse()?)
}

/// Declares a queue as Jalur declares a tenant's.
pub(crate) async fn declare(channel: &Channel, queue: &str) -> anyhow::Result<()> {
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(queue.into(), options, FieldTable::default())
        .await?;
    Ok(())
}
