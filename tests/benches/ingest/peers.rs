//! What somebody would write without Jalur. None has positions in commit order, fairness, dead letters or retries; all
//! acknowledge after the commit and store a message id once, as Jalur does.
//!
//! Their table is partitioned and indexed as Jalur's is; its position is a sequence's, which readers cannot resume
//! from, but which costs the same index.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use common::id::TenantId;
use futures::{StreamExt as _, TryFutureExt as _, TryStreamExt as _, future::try_join_all, stream};
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
/// Of each queue in a loop over all of them. (100 tenants: 200 are no faster, 2,000 slower.)
const LOOP_PREFETCH: u16 = 50;
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
    bench.time(workers.map_ok(drop)).await
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
    let bench = Arc::new(bench);
    let workers = try_join_all(bench.queues.clone().into_iter().map(|(queue, _)| {
        let bench = Arc::clone(&bench);
        async move { tokio::spawn(async move { bench.batched_worker(&queue).await }).await? }
    }));
    bench.time(workers.map_ok(drop)).await
}

/// The same in one loop, on one channel and one connection: whatever tenants come, 500 rows at a time.
pub(crate) async fn batched_loop(
    ground: &Ground,
    tenants: usize,
    count: usize,
    bytes: usize,
) -> anyhow::Result<Duration> {
    let bench = Arc::new(Bench::open(ground, tenants, 1, count, bytes).await?);
    let worker = Arc::clone(&bench);
    let worker = tokio::spawn(async move { worker.loop_worker().await });
    bench.time(async { worker.await? }).await
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
    async fn time(&self, workers: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<Duration> {
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
        let mut arrivals = consumer.ready_chunks(BATCH);
        while let Some(arrived) = self.next(arrivals.next()).await {
            let mut batch = Batch::default();
            for delivery in arrived {
                batch.push(queue, &delivery?)?;
            }
            self.store(&channel, batch).await?;
        }
        Ok(())
    }

    async fn loop_worker(&self) -> anyhow::Result<()> {
        let channel = self.connection.create_channel().await?;
        channel
            .basic_qos(LOOP_PREFETCH, BasicQosOptions::default())
            .await?;
        let mut consumers = Vec::new();
        for (queue, _) in &self.queues {
            let options = BasicConsumeOptions::default();
            let consumer =
                channel.basic_consume(queue.as_str().into(), "".into(), options, FieldTable::default());
            consumers.push(consumer.await?.map(move |delivery| (queue.as_str(), delivery)));
        }
        let mut arrivals = stream::select_all(consumers).ready_chunks(BATCH);
        // In the order of their tags, which the consumers between them do not keep, and `multiple` acks need.
        let (mut waiting, mut next) = (BTreeMap::new(), 1);
        while let Some(arrived) = self.next(arrivals.next()).await {
            for (queue, delivery) in arrived {
                let delivery = delivery?;
                waiting.insert(delivery.delivery_tag, (queue, delivery));
            }
            loop {
                let mut batch = Batch::default();
                while batch.ids.len() < BATCH
                    && let Some((queue, delivery)) = waiting.remove(&next)
                {
                    batch.push(queue, &delivery)?;
                    next += 1;
                }
                if batch.ids.is_empty() {
                    break;
                }
                self.store(&channel, batch).await?;
            }
        }
        Ok(())
    }

    async fn store(&self, channel: &Channel, batch: Batch) -> anyhow::Result<()> {
        let count = batch.ids.len();
        sqlx::query(
            "insert into peer (id, tenant_id, payload)
             select id, tenant_id, payload::jsonb
             from unnest($1::uuid[], $2::uuid[], $3::text[]) as rows (id, tenant_id, payload)
             on conflict do nothing",
        )
        .bind(batch.ids)
        .bind(batch.tenants)
        .bind(batch.payloads)
        .execute(&self.pool)
        .await?;
        channel
            .basic_ack(batch.last_tag, BasicAckOptions { multiple: true })
            .await?;
        self.stored(count);
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

/// What one INSERT takes, and the tag that acknowledges it.
#[derive(Default)]
struct Batch {
    ids: Vec<Uuid>,
    tenants: Vec<Uuid>,
    payloads: Vec<String>,
    last_tag: u64,
}

impl Batch {
    fn push(&mut self, queue: &str, delivery: &Delivery) -> anyhow::Result<()> {
        let (id, tenant, payload) = row(queue, delivery)?;
        self.ids.push(id);
        self.tenants.push(tenant);
        self.payloads.push(payload);
        self.last_tag = delivery.delivery_tag;
        Ok(())
    }
}

/// Id, tenant and payload. The tenant is in the queue's name.
fn row(queue: &str, delivery: &Delivery) -> anyhow::Result<(Uuid, Uuid, String)> {
    let tenant = queue.strip_prefix("peer_").context("no peer's queue")?;
    let payload = String::from_utf8(delivery.data.clone())?;
    Ok((fill::id(&delivery.properties)?, tenant.parse()?, payload))
}
