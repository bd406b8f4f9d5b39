//! Batches, on Jalur's own libraries: one INSERT and one `multiple` ack for whatever has come.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt as _, TryFutureExt as _, future::try_join_all, stream};
use lapin::{Channel, message::Delivery, options::BasicAckOptions};
use uuid::Uuid;

use super::{
    BATCH,
    room::{self, Room},
};
use crate::{
    fill::{PREFETCH, PREFETCH_LEAST},
    ground::Ground,
};

/// Connections of all tasks: as many as keep two cores busy.
const CONNECTIONS: u32 = 4;

/// A channel and a task for every queue, four connections for all.
pub(super) async fn tasks(
    ground: &Ground,
    queues: usize,
    count: usize,
    bytes: usize,
) -> anyhow::Result<Duration> {
    // Tasks on one thread would leave the other core idle; scoped tasks do not exist, so the whole is shared.
    let room = Arc::new(Room::open(ground, queues, CONNECTIONS, count, bytes).await?);
    let workers = try_join_all(room.queues.clone().into_iter().map(|queue| {
        let room = Arc::clone(&room);
        async move { tokio::spawn(async move { room.task(&queue).await }).await? }
    }));
    let took = room.time(workers.map_ok(drop)).await?;
    room.close(count).await?;
    Ok(took)
}

/// One loop, on one channel and one connection: whatever tenants come, 500 rows at a time.
pub(super) async fn looped(
    ground: &Ground,
    queues: usize,
    count: usize,
    bytes: usize,
) -> anyhow::Result<Duration> {
    let room = Arc::new(Room::open(ground, queues, 1, count, bytes).await?);
    let worker = Arc::clone(&room);
    let worker = tokio::spawn(async move { worker.looped().await });
    let took = room.time(async { worker.await? }).await?;
    room.close(count).await?;
    Ok(took)
}

impl Room {
    async fn task(&self, queue: &str) -> anyhow::Result<()> {
        let channel = self.channel(PREFETCH).await?;
        let mut arrivals = room::consume(&channel, queue).await?.ready_chunks(BATCH);
        while let Some(arrived) = self.next(arrivals.next()).await {
            let mut batch = Batch::default();
            for delivery in arrived {
                batch.push(queue, &delivery?)?;
            }
            self.store(&channel, batch).await?;
        }
        Ok(())
    }

    async fn looped(&self) -> anyhow::Result<()> {
        let prefetch = (PREFETCH / self.queues.len()).max(PREFETCH_LEAST);
        let channel = self.channel(prefetch).await?;
        let mut consumers = Vec::new();
        for queue in &self.queues {
            let consumer = room::consume(&channel, queue).await?;
            consumers.push(consumer.map(move |delivery| (queue.as_str(), delivery)));
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
        let (id, tenant, payload) = room::row(queue, delivery)?;
        self.ids.push(id);
        self.tenants.push(tenant);
        self.payloads.push(payload);
        self.last_tag = delivery.delivery_tag;
        Ok(())
    }
}
