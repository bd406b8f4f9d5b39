//! The baselines: what broker and database do with nobody in between.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use common::id::TenantId;
use futures::StreamExt as _;
use lapin::{
    Connection,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, QueueDeleteOptions,
    },
    types::FieldTable,
};
use sqlx::{Connection as _, PgConnection};
use tests::load;
use uuid::Uuid;

use tests::bench::Series;

use crate::{fill, ground::Ground};

/// More than this makes the broker no faster.
const PREFETCH: u16 = 2_000;
/// Deliveries to an acknowledgement.
const ACK_EVERY: usize = 250;
/// How much of a COPY goes into one network message.
const COPY_BYTES: usize = 64 << 10;

const QUEUE: &str = "bare";

/// How long the broker takes to hand out a full queue: consumed, acknowledged, dropped.
pub(crate) async fn drain(ground: &Ground, count: usize, bytes: usize) -> anyhow::Result<Duration> {
    let tenant = TenantId(Uuid::now_v7());
    let connection: Connection = ground.stack.amqp().await?;
    let channel = connection.create_channel().await?;
    fill::declare(&channel, QUEUE).await?;
    fill::fill(&ground.amqp, &[(QUEUE.into(), tenant)], count, bytes).await?;
    ground.settle().await?;

    let started = Instant::now();
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let mut consumer = channel
        .basic_consume(
            QUEUE.into(),
            "bare".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let multiple = BasicAckOptions { multiple: true };
    for taken in 1..=count {
        let delivery = consumer.next().await.context("the queue is gone")??;
        if taken % ACK_EVERY == 0 || taken == count {
            channel.basic_ack(delivery.delivery_tag, multiple).await?;
        }
    }
    let took = started.elapsed();
    channel
        .queue_delete(QUEUE.into(), QueueDeleteOptions::default())
        .await?;
    connection.close(200, "drained".into()).await?;
    Ok(took)
}

/// How long one COPY of the same rows takes, into a table like a tenant's partition.
pub(crate) async fn copy(ground: &Ground, count: usize, bytes: usize) -> anyhow::Result<Duration> {
    let tenant = TenantId(Uuid::now_v7());
    let mut connection = leaf(ground).await?;
    let mut chunks = Vec::new();
    let mut chunk = Vec::with_capacity(COPY_BYTES + bytes);
    for number in 1..=count {
        let id = Uuid::now_v7();
        chunk.extend_from_slice(format!("{id}\t{tenant}\t{number}\t").as_bytes());
        // Holds nothing that COPY's text format would want escaped.
        chunk.extend_from_slice(&load::body(tenant, number, bytes));
        chunk.push(b'\n');
        if chunk.len() >= COPY_BYTES || number == count {
            chunks.push(std::mem::replace(
                &mut chunk,
                Vec::with_capacity(COPY_BYTES + bytes),
            ));
        }
    }
    ground.settle().await?;

    let started = Instant::now();
    let mut copy = connection
        .copy_in_raw("copy bare_leaf (id, tenant_id, position, payload) from stdin")
        .await?;
    for chunk in chunks {
        copy.send(chunk).await?;
    }
    copy.finish().await?;
    let took = started.elapsed();
    drop_leaf(connection).await?;
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
