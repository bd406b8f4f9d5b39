//! The plain design: one INSERT and one ack for each message.

use std::time::Duration;

use futures::{StreamExt as _, TryFutureExt as _, future::try_join_all};
use lapin::options::BasicAckOptions;

use super::room::{self, Room};
use crate::ground::Ground;

/// Consumers, and connections.
const WORKERS: u32 = 5;
/// Deliveries that a worker may hold: the next is there when one is done.
const PREFETCH: usize = 50;

/// By five workers on one queue.
pub(crate) async fn plain(ground: &Ground, count: usize, bytes: usize) -> anyhow::Result<Duration> {
    let room = Room::open(ground, 1, WORKERS, count, bytes).await?;
    let workers = try_join_all((0..WORKERS).map(|_| room.plain_worker(&room.queues[0])));
    let took = room.time(workers.map_ok(drop)).await?;
    room.close(count).await?;
    Ok(took)
}

impl Room {
    async fn plain_worker(&self, queue: &str) -> anyhow::Result<()> {
        let channel = self.channel(PREFETCH).await?;
        let mut consumer = room::consume(&channel, queue).await?;
        while let Some(delivery) = self.next(consumer.next()).await {
            let delivery = delivery?;
            let (id, tenant, payload) = room::row(queue, &delivery)?;
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
}
