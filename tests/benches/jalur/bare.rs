//! The baselines: what broker and database do with nobody in between.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use common::id::TenantId;
use futures::{StreamExt as _, stream};
use lapin::{
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, QueueDeleteOptions,
    },
    types::FieldTable,
};
use sqlx::{Connection as _, PgConnection};
use tests::{bench::Series, load};
use uuid::Uuid;

use crate::{
    fill::{self, PREFETCH, PREFETCH_LEAST},
    ground::Ground,
};

/// Deliveries to an acknowledgement.
const ACK_EVERY: usize = 250;

const QUEUE: &str = "bare";
const MULTIPLE: BasicAckOptions = BasicAckOptions { multiple: true };

/// How long the broker takes to hand out so many full queues: consumed, acknowledged, dropped.
pub(crate) async fn drain(
    ground: &Ground,
    queues: usize,
    count: usize,
    bytes: usize,
) -> anyhow::Result<Duration> {
    let tenant = TenantId(Uuid::now_v7());
    let connection = ground.stack.amqp().await?;
    let channel = connection.create_channel().await?;
    let queues: Vec<fill::Target> = (0..queues).map(|n| (format!("{QUEUE}_{n}"), tenant)).collect();
    for (queue, _) in &queues {
        fill::declare(&channel, queue).await?;
    }
    ground.fill(&queues, count, bytes).await?;

    let prefetch = (PREFETCH / queues.len()).max(PREFETCH_LEAST);
    channel
        .basic_qos(u16::try_from(prefetch)?, BasicQosOptions::default())
        .await?;
    let started = Instant::now();
    let mut consumers = Vec::new();
    for (queue, _) in &queues {
        let options = BasicConsumeOptions::default();
        let consumer =
            channel.basic_consume(queue.as_str().into(), "".into(), options, FieldTable::default());
        consumers.push(consumer.await?);
    }
    let mut deliveries = stream::select_all(consumers);
    // Deliveries are not looked at in the order of their tags: with the newest others are acknowledged that have not been
    // looked at yet, and would be dropped as well; and it may be acknowledged already.
    let (mut newest, mut acknowledged) = (0, 0);
    for taken in 1..=count {
        let delivery = deliveries.next().await.context("the queues are gone")??;
        newest = delivery.delivery_tag.max(newest);
        if (taken % ACK_EVERY == 0 || taken == count) && newest > acknowledged {
            channel.basic_ack(newest, MULTIPLE).await?;
            acknowledged = newest;
        }
    }
    let took = started.elapsed();
    for (queue, _) in queues {
        channel
            .queue_delete(queue.into(), QueueDeleteOptions::default())
            .await?;
    }
    connection.close(200, "drained".into()).await?;
    Ok(took)
}

/// The seconds of hops through the broker, published to received, and of committed rows: with nothing else going on,
/// in turns.
pub(crate) async fn hop_and_commit(
    ground: &Ground,
    times: usize,
    bytes: usize,
) -> anyhow::Result<(Series, Series)> {
    let tenant = TenantId(Uuid::now_v7());
    let amqp = ground.stack.amqp().await?;
    let (publisher, channel) = (amqp.create_channel().await?, amqp.create_channel().await?);
    fill::declare(&channel, QUEUE).await?;
    let mut consumer = channel
        .basic_consume(
            QUEUE.into(),
            "bare".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let mut connection = leaf(ground).await?;
    let (mut hops, mut commits) = (Series::default(), Series::default());
    for number in 0..times {
        let (id, body) = (Uuid::now_v7(), load::body(tenant, number, bytes));
        let started = Instant::now();
        let options = BasicPublishOptions::default();
        publisher
            .basic_publish("".into(), QUEUE.into(), options, &body, fill::properties(id))
            .await?;
        let delivery = consumer.next().await.context("the queue is gone")??;
        hops.push(started.elapsed().as_secs_f64());
        delivery.ack(BasicAckOptions::default()).await?;

        let started = Instant::now();
        sqlx::query(
            "insert into bare_leaf (id, tenant_id, payload, position) values ($1, $2, $3::text::jsonb, $4)",
        )
        .bind(id)
        .bind(tenant.0)
        .bind(String::from_utf8(body)?)
        .bind(i64::try_from(number)?)
        .execute(&mut connection)
        .await?;
        commits.push(started.elapsed().as_secs_f64());
    }
    channel
        .queue_delete(QUEUE.into(), QueueDeleteOptions::default())
        .await?;
    amqp.close(200, "done".into()).await?;
    drop_leaf(connection).await?;
    Ok((hops, commits))
}

async fn leaf(ground: &Ground) -> anyhow::Result<PgConnection> {
    let mut connection = PgConnection::connect(ground.stack.database_url()).await?;
    sqlx::query("create table bare_leaf (like messages including all)")
        .execute(&mut connection)
        .await?;
    Ok(connection)
}

async fn drop_leaf(mut connection: PgConnection) -> anyhow::Result<()> {
    sqlx::query("drop table bare_leaf")
        .execute(&mut connection)
        .await?;
    Ok(connection.close().await?)
}
