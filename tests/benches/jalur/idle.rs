//! Idle tenants by the thousand, as cheaply as they come out right: rows and partitions in bulk, and everything in the
//! broker by the control plane, which makes what it finds missing.
//!
//! Attaching a partition takes as long as there are others, so their partitions hang below `messages` in groups: a
//! tenant's own is found by its name as always, and nothing is ever written into it. Nobody is busy here.

use std::time::{Duration, Instant};

use anyhow::ensure;
use common::id::TenantId;
use futures::{TryStreamExt as _, stream};
use lapin::{options::QueueDeclareOptions, types::FieldTable};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::ground::Ground;

/// Tenants of one transaction, and partitions of one group.
const GROUP: usize = 100;
/// Groups at a time: as many as a small machine has cores.
const AT_ONCE: usize = 2;
/// How long the broker may take over 20,000 durable queues, and how often it is looked at.
const PATIENCE: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(500);

/// Adds so many active tenants. No daemon may run meanwhile; the control plane is started again, and knows them all.
pub(crate) async fn add(ground: &Ground, count: usize) -> anyhow::Result<()> {
    eprintln!("making {count} idle tenants");
    let mut tenants: Vec<TenantId> = (0..count).map(|_| TenantId(Uuid::now_v7())).collect();
    tenants.sort_unstable();
    stream::iter(tenants.chunks(GROUP).map(anyhow::Ok))
        .try_for_each_concurrent(AT_ONCE, |group| rows(ground, group))
        .await?;
    ground.stack.member("control-plane-1")?.restart().await?;
    queues(ground, &tenants).await?;
    ground.settle().await
}

/// One transaction, since it is one simple query.
async fn rows(ground: &Ground, tenants: &[TenantId]) -> anyhow::Result<()> {
    let name = format!("messages_idle_{}", Uuid::now_v7().simple());
    let list = |each: fn(&TenantId) -> String| tenants.iter().map(each).collect::<Vec<_>>();
    let partitions = list(|tenant| tenant.partition());
    let values = list(|tenant| format!("'{tenant}'"));
    let mut sql = format!(
        "insert into tenants (id, name, description, status, phase, workers, created_with)
         select id, 'idle ' || id, '', 'active', 'ready', 3, '{{}}' from unnest(array[{0}]::uuid[]) as id;
         insert into positions (tenant_id, last)
         select id, positions_from from fleet, unnest(array[{0}]::uuid[]) as id;
         create table {name} (like messages including all) partition by list (tenant_id);",
        values.join(",")
    );
    for (partition, value) in partitions.iter().zip(&values) {
        sql += &format!("create table {partition} partition of {name} for values in ({value});");
    }
    sql += &format!(
        "alter table messages attach partition {name} for values in ({});",
        values.join(",")
    );
    // Made of ids alone.
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(ground.stack.database())
        .await?;
    Ok(())
}

/// Waits until the broker has everybody's queues: the control plane goes through tenants by their ids, so where those of
/// the last are, all are.
async fn queues(ground: &Ground, tenants: &[TenantId]) -> anyhow::Result<()> {
    let Some(last) = tenants.last() else {
        return Ok(());
    };
    let started = Instant::now();
    while !exists(ground, &last.dead_letter_queue()).await? {
        ensure!(
            started.elapsed() < PATIENCE,
            "the control plane does not make the queues of {last}"
        );
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// A queue that is not there costs the channel that asked.
async fn exists(ground: &Ground, queue: &str) -> anyhow::Result<bool> {
    let channel = ground.amqp.create_channel().await?;
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let found = channel.queue_declare(queue.into(), options, FieldTable::default());
    if found.await.is_err() {
        return Ok(false);
    }
    channel.close(200, "seen".into()).await?;
    Ok(true)
}
