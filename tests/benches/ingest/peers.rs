//! What somebody would write without Jalur, twice. Neither has positions in commit order, fairness, dead letters or
//! retries; both ack after the commit and store a message id once, as Jalur does.
//!
//! Their table is partitioned and indexed as Jalur's is; its position is a sequence's, which readers cannot resume
//! from, but which costs the same index.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use common::id::TenantId;
use futures::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use lapin::{
    Channel, Connection, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeleteOptions},
    types::FieldTable,
};
use sqlx::{AssertSqlSafe, PgPool, postgres::PgPoolOptions};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{fill, ground::Ground};

/// Consumers, and connections, of the plain design.
const WORKERS: u16 = 5;
/// Deliveries that a plain worker may hold: the next is there when one is done.
const PLAIN_PREFETCH: u16 = 50;
/// Rows of one INSERT at most.
const BATCH: usize = 500;
/// A few batches, so that the broker goes on while one is stored.
const BATCHED_PREFETCH: u16 = 2_000;
/// Connections of the batched consumer: as many as keep two cores busy.
const CONNECTIONS: u32 = 4;

const SCHEMA: [&str; 4] = [
    "drop table if exists peer",
    "create sequence if not exists peer_position",
    "create table peer (like messages including all) partition by list (tenant_id)",
    "alter table peer alter position set default nextval('peer_position')",
];

/// Queues, their table, and the count of what is stored.
struct Bench {
    connection: Connection,
    pool: PgPool,
    queues: Vec<fill::Target>,
    left: AtomicUsize,
    done: CancellationToken,
}

/// One INSERT and one ack for each message, by five workers on one queue.
pub(crate) async fn plain(ground: &Ground, count: usize, bytes: usize) -> anyhow::Result<Duration> {
    let bench = Bench::open(ground, 1, u32::from(WORKERS), count, bytes).await?;
    let workers = try_join_all((0..WORKERS).map(|_| bench.plain_worker(&bench.queues[0].0)));
    bench.time(workers).await
}

/// Batches of up to 500, one INSERT and one `multiple` ack for each, over so many tenants: a channel and a task for
/// every queue, four connections for all.
pub(crate) async fn batched(
    ground: &Ground,
    tenants: usize,
    count: usize,
    bytes: usize,
) -> anyhow::Result<Duration> {
    let bench = Bench::open(ground, tenants, CONNECTIONS, count, bytes).await?;
    // Tasks on one thread would leave the other core idle; scoped tasks do not exist, so the whole is shared.
    let bench = std::sync::Arc::new(bench);
    let workers = try_join_all(bench.queues.clone().into_iter().map(|(queue, _)| {
        let bench = std::sync::Arc::clone(&bench);
        async move { tokio::spawn(async move { bench.batched_worker(&queue).await }).await? }
    }));
    bench.time(workers).await
}

impl Bench {
    async fn open(
        ground: &Ground,
        tenants: usize,
        connections: u32,
        count: usize,
        bytes: usize,
    ) -> anyhow::Result<Self> {
        let pool = PgPoolOptions::new()
            .min_connections(connections)
            .max_connections(connections)
            .connect(ground.stack.database_url())
            .await?;
        for statement in SCHEMA {
            sqlx::query(statement).execute(&pool).await?;
        }
        let connection = ground.stack.amqp().await?;
        let channel = connection.create_channel().await?;
        let mut queues = Vec::new();
        for _ in 0..tenants {
            let tenant = TenantId(Uuid::now_v7());
            let partition = format!(
                "create table peer_{} partition of peer for values in ('{tenant}')",
                tenant.0.simple()
            );
            sqlx::query(AssertSqlSafe(partition)).execute(&pool).await?;
            let queue = format!("peer_{tenant}");
            fill::declare(&channel, &queue).await?;
            queues.push((queue, tenant));
        }
        fill::fill(&ground.amqp, &queues, count, bytes).await?;
        ground.settle().await?;
        Ok(Self {
            connection,
            pool,
            queues,
            left: AtomicUsize::new(count),
            done: CancellationToken::new(),
        })
    }

    /// Runs the workers until everything is stored, and answers how long that takes.
    async fn time(&self, workers: impl Future<Output = anyhow::Result<Vec<()>>>) -> anyhow::Result<Duration> {
        let started = Instant::now();
        workers.await?;
        let took = started.elapsed();
        let channel = self.connection.create_channel().await?;
        stream::iter(&self.queues)
            .map(|(queue, _)| channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()))
            .buffered(10)
            .try_for_each(async |_| Ok(()))
            .await?;
        self.connection.close(200, "done".into()).await?;
        sqlx::query("drop table peer").execute(&self.pool).await?;
        self.pool.close().await;
        Ok(took)
    }

    async fn plain_worker(&self, queue: &str) -> anyhow::Result<()> {
        let (_channel, mut consumer) = self.consume(queue, PLAIN_PREFETCH).await?;
        while let Some(delivery) = self.next(consumer.next()).await {
            let delivery = delivery?;
            let (id, tenant, payload) = row(queue, &delivery)?;
            sqlx::query(
                "insert into peer (id, tenant_id, payload) values ($1, $2, $3::text::jsonb) on conflict do nothing",
            )
            .bind(id)
            .bind(tenant)
            .bind(payload)
            .execute(&self.pool)
            .await?;
            delivery.ack(BasicAckOptions::default()).await?;
            self.stored(1);
        }
        Ok(())
    }

    async fn batched_worker(&self, queue: &str) -> anyhow::Result<()> {
        let (channel, consumer) = self.consume(queue, BATCHED_PREFETCH).await?;
        let mut batches = consumer.ready_chunks(BATCH);
        while let Some(batch) = self.next(batches.next()).await {
            let (mut ids, mut tenants, mut payloads) = (Vec::new(), Vec::new(), Vec::new());
            let mut tag = 0;
            for delivery in batch {
                let delivery = delivery?;
                let (id, tenant, payload) = row(queue, &delivery)?;
                tag = delivery.delivery_tag;
                ids.push(id);
                tenants.push(tenant);
                payloads.push(payload);
            }
            let count = ids.len();
            sqlx::query(
                "insert into peer (id, tenant_id, payload)
                 select id, tenant_id, payload::jsonb
                 from unnest($1::uuid[], $2::uuid[], $3::text[]) as rows (id, tenant_id, payload)
                 on conflict do nothing",
            )
            .bind(ids)
            .bind(tenants)
            .bind(payloads)
            .execute(&self.pool)
            .await?;
            channel.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
            self.stored(count);
        }
        Ok(())
    }

    /// What comes, or nothing once everything is stored.
    async fn next<T>(&self, next: impl Future<Output = Option<T>>) -> Option<T> {
        tokio::select! {
            biased;
            next = next => next,
            () = self.done.cancelled() => None,
        }
    }

    fn stored(&self, count: usize) {
        if self.left.fetch_sub(count, Ordering::Relaxed) == count {
            self.done.cancel();
        }
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> anyhow::Result<(Channel, Consumer)> {
        let channel = self.connection.create_channel().await?;
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let consumer = channel
            .basic_consume(queue.into(), "".into(), options, FieldTable::default())
            .await?;
        Ok((channel, consumer))
    }
}

/// Id, tenant and payload. The tenant is in the queue's name.
fn row(queue: &str, delivery: &Delivery) -> anyhow::Result<(Uuid, Uuid, String)> {
    let tenant = queue.strip_prefix("peer_").context("no peer's queue")?;
    let payload = String::from_utf8(delivery.data.clone())?;
    Ok((fill::id(&delivery.properties)?, tenant.parse()?, payload))
}
