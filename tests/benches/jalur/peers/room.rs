//! What every peer works on: full queues, and a table like Jalur's.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use common::id::TenantId;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use lapin::{
    Channel, Connection, Consumer,
    message::Delivery,
    options::{BasicConsumeOptions, BasicQosOptions, QueueDeleteOptions},
    types::FieldTable,
};
use sqlx::{AssertSqlSafe, PgPool, postgres::PgPoolOptions};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{fill, ground::Ground};

/// A queue's name is this and its tenant.
const PREFIX: &str = "peer_";
const SCHEMA: [&str; 4] = [
    "drop table if exists peer",
    "create sequence if not exists peer_position",
    "create table peer (like messages including all) partition by list (tenant_id)",
    "alter table peer alter position set default nextval('peer_position')",
];

/// Queues, their table, and the count of what is stored.
pub(super) struct Room {
    pub(super) connection: Connection,
    pub(super) pool: PgPool,
    pub(super) queues: Vec<String>,
    left: AtomicUsize,
    done: CancellationToken,
}

impl Room {
    /// Full queues, and so many connections to the database.
    pub(super) async fn open(
        ground: &Ground,
        queues: usize,
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
        let tenants: Vec<TenantId> = (0..queues).map(|_| TenantId(Uuid::now_v7())).collect();
        let targets: Vec<fill::Target> = tenants.iter().map(|&of| (format!("{PREFIX}{of}"), of)).collect();
        for (queue, tenant) in &targets {
            let partition = format!(
                "create table peer_{} partition of peer for values in ('{tenant}')",
                tenant.0.simple()
            );
            sqlx::query(AssertSqlSafe(partition)).execute(&pool).await?;
            fill::declare(&channel, queue).await?;
        }
        ground.fill(&targets, count, bytes).await?;
        Ok(Self {
            connection,
            pool,
            queues: targets.into_iter().map(|(queue, _)| queue).collect(),
            left: AtomicUsize::new(count),
            done: CancellationToken::new(),
        })
    }

    /// Runs the workers until everything is stored, and answers how long that takes.
    pub(super) async fn time(
        &self,
        workers: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<Duration> {
        let started = Instant::now();
        workers.await?;
        Ok(started.elapsed())
    }

    /// Sees that everything was stored, and removes it.
    pub(super) async fn close(&self, count: usize) -> anyhow::Result<()> {
        let rows: i64 = sqlx::query_scalar("select count(*) from peer")
            .fetch_one(&self.pool)
            .await?;
        anyhow::ensure!(
            usize::try_from(rows) == Ok(count),
            "a peer stored {rows} of {count} messages"
        );
        let channel = self.connection.create_channel().await?;
        stream::iter(&self.queues)
            .map(|queue| channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()))
            .buffered(10)
            .try_for_each(async |_| Ok(()))
            .await?;
        self.connection.close(200, "done".into()).await?;
        sqlx::query("drop table peer").execute(&self.pool).await?;
        self.pool.close().await;
        Ok(())
    }

    pub(super) async fn channel(&self, prefetch: usize) -> anyhow::Result<Channel> {
        let channel = self.connection.create_channel().await?;
        channel
            .basic_qos(u16::try_from(prefetch)?, BasicQosOptions::default())
            .await?;
        Ok(channel)
    }

    /// What comes, or nothing once everything is stored.
    pub(super) async fn next<T>(&self, next: impl Future<Output = Option<T>>) -> Option<T> {
        tokio::select! {
            biased;
            next = next => next,
            () = self.done.cancelled() => None,
        }
    }

    pub(super) fn stored(&self, count: usize) {
        if self.left.fetch_sub(count, Ordering::Relaxed) == count {
            self.done.cancel();
        }
    }
}

pub(super) async fn consume(channel: &Channel, queue: &str) -> anyhow::Result<Consumer> {
    let options = BasicConsumeOptions::default();
    Ok(channel
        .basic_consume(queue.into(), "".into(), options, FieldTable::default())
        .await?)
}

/// Id, tenant and payload. The tenant is in the queue's name.
pub(super) fn row(queue: &str, delivery: &Delivery) -> anyhow::Result<(Uuid, Uuid, String)> {
    let tenant = queue.strip_prefix(PREFIX).context("no peer's queue")?;
    let payload = String::from_utf8(delivery.data.clone())?;
    Ok((fill::id(&delivery.properties)?, tenant.parse()?, payload))
}
