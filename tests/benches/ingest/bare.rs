//! The baselines: what broker and database do with nobody in between.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use common::id::TenantId;
use futures::StreamExt as _;
use lapin::{
    Channel, Connection, Consumer,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, QueueDeleteOptions,
    },
    types::FieldTable,
};
use sqlx::{Connection as _, PgConnection};
use tests::load;
use tokio::sync::mpsc;
use uuid::Uuid;

use tests::bench::Series;

use crate::{fill, ground::Ground};

/// More than this makes the broker no faster.
const PREFETCH: u16 = 2_000;
/// Deliveries to an acknowledgement.
const ACK_EVERY: usize = 250;
/// How much of a COPY goes into one network message.
const COPY_BYTES: usize = 64 << 10;
/// What a commit of Jalur's has when one tenant is busy.
const COMMIT_ROWS: usize = 1_000;
/// How many of these may wait for the one before.
const COMMITS_WAITING: usize = 4;
/// Some commits' worth, since only what is committed is acknowledged.
const COMMITS_PREFETCH: u16 = 4_000;

const QUEUE: &str = "bare";
const COPY: &str = "copy bare_leaf (id, tenant_id, position, payload) from stdin";
const MULTIPLE: BasicAckOptions = BasicAckOptions { multiple: true };

/// How long the broker takes to hand out a full queue: consumed, acknowledged, dropped.
pub(crate) async fn drain(ground: &Ground, count: usize, bytes: usize) -> anyhow::Result<Duration> {
    let tenant = TenantId(Uuid::now_v7());
    let (connection, channel) = full_queue(ground, tenant, count, bytes).await?;
    ground.settle().await?;

    let started = Instant::now();
    let mut consumer = consume(&channel, PREFETCH).await?;
    for taken in 1..=count {
        let delivery = consumer.next().await.context("the queue is gone")??;
        if taken % ACK_EVERY == 0 || taken == count {
            channel.basic_ack(delivery.delivery_tag, MULTIPLE).await?;
        }
    }
    let took = started.elapsed();
    drop_queue(connection, &channel).await?;
    Ok(took)
}

/// How long one COPY of the same rows takes, into a table like a tenant's partition.
pub(crate) async fn copy(ground: &Ground, count: usize, bytes: usize) -> anyhow::Result<Duration> {
    let tenant = TenantId(Uuid::now_v7());
    let mut connection = leaf(ground).await?;
    let rows = COPY_BYTES.div_ceil(bytes);
    let chunks = lines(tenant, count, bytes, rows);
    ground.settle().await?;

    let started = Instant::now();
    let mut copy = connection.copy_in_raw(COPY).await?;
    for chunk in chunks {
        copy.send(chunk).await?;
    }
    copy.finish().await?;
    let took = started.elapsed();
    drop_leaf(connection).await?;
    Ok(took)
}

/// How long both take at once: as many rows are copied as were delivered, a commit of [`COMMIT_ROWS`] at a time, and
/// acknowledged after it. Nothing is read from the messages, the rows were made beforehand: whatever stores what it
/// consumes has this to do and more.
pub(crate) async fn drain_and_copy(ground: &Ground, count: usize, bytes: usize) -> anyhow::Result<Duration> {
    let tenant = TenantId(Uuid::now_v7());
    let (connection, channel) = full_queue(ground, tenant, count, bytes).await?;
    let mut table = leaf(ground).await?;
    let chunks = lines(tenant, count, bytes, COMMIT_ROWS);
    ground.settle().await?;

    let started = Instant::now();
    let mut consumer = consume(&channel, COMMITS_PREFETCH).await?;
    let (delivered, mut commits) = mpsc::channel(COMMITS_WAITING);
    let draining = async {
        for taken in 1..=count {
            let delivery = consumer.next().await.context("the queue is gone")??;
            if taken % COMMIT_ROWS == 0 || taken == count {
                delivered.send(delivery.delivery_tag).await?;
            }
        }
        anyhow::Ok(())
    };
    let copying = async {
        for chunk in chunks {
            let tag = commits.recv().await.context("fewer came than there are")?;
            let mut copy = table.copy_in_raw(COPY).await?;
            copy.send(chunk).await?;
            copy.finish().await?;
            channel.basic_ack(tag, MULTIPLE).await?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(draining, copying)?;
    let took = started.elapsed();
    drop_queue(connection, &channel).await?;
    drop_leaf(table).await?;
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

/// A queue with so many messages of a tenant in it.
async fn full_queue(
    ground: &Ground,
    tenant: TenantId,
    count: usize,
    bytes: usize,
) -> anyhow::Result<(Connection, Channel)> {
    let connection = ground.stack.amqp().await?;
    let channel = connection.create_channel().await?;
    fill::declare(&channel, QUEUE).await?;
    fill::fill(&ground.amqp, &[(QUEUE.into(), tenant)], count, bytes).await?;
    Ok((connection, channel))
}

async fn consume(channel: &Channel, prefetch: u16) -> anyhow::Result<Consumer> {
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(QUEUE.into(), "bare".into(), options, FieldTable::default());
    Ok(consumer.await?)
}

async fn drop_queue(connection: Connection, channel: &Channel) -> anyhow::Result<()> {
    channel
        .queue_delete(QUEUE.into(), QueueDeleteOptions::default())
        .await?;
    Ok(connection.close(200, "drained".into()).await?)
}

/// The same rows as COPY reads them, so many to a chunk.
fn lines(tenant: TenantId, count: usize, bytes: usize, rows: usize) -> Vec<Vec<u8>> {
    let numbers: Vec<usize> = (1..=count).collect();
    let line = |number: &usize| {
        let mut line = format!("{}\t{tenant}\t{number}\t", Uuid::now_v7()).into_bytes();
        // Holds nothing that COPY's text format would want escaped.
        line.extend_from_slice(&load::body(tenant, *number, bytes));
        line.push(b'\n');
        line
    };
    numbers
        .chunks(rows)
        .map(|numbers| numbers.iter().flat_map(line).collect())
        .collect()
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
