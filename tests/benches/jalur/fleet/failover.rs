//! A daemon of three dies or hangs, and a message is published to each of its tenants: until the last is stored.

use std::time::{Duration, Instant};

use common::id::TenantId;
use lapin::BasicProperties;
use tests::{
    Member,
    bench::{self, Report, Series, Target},
    load::{self, Publisher},
};
use uuid::Uuid;

use crate::{ground::Ground, plan::Plan};

const DAEMONS: u16 = 3;
const PERSISTENT: u8 = 2;
/// A control plane that has just started gives every daemon a lease's time before it declares any out.
const FIRST_LEASE: Duration = Duration::from_secs(6);

pub(crate) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let ground = Ground::start(DAEMONS).await?;
    let count = plan.fleet_tenants;
    bench::tenants(&ground.rest, "failover", count, "active").await?;
    tokio::time::sleep(FIRST_LEASE).await;
    let (mut killed, mut hung) = (Series::default(), Series::default());
    for n in 0..plan.kills {
        eprintln!("failover {}", n + 1);
        let name = format!("ingest-daemon-{}", n % usize::from(DAEMONS) + 1);
        let daemon = ground.stack.member(&name)?;
        ready(&ground, daemon, count).await?;
        killed.push(failover(&ground, daemon, async || daemon.kill().await).await?);
        daemon.start_again()?;
        ready(&ground, daemon, count).await?;
        hung.push(failover(&ground, daemon, async || daemon.freeze()).await?);
        daemon.thaw();
    }
    let mut tell = |what: &str, took: &Series, most: f64| {
        report.bounded(
            format!(
                "failover of a daemon that {what}, of three with {count} tenants: median / longest of {}",
                plan.kills
            ),
            format!("{:.2} / {:.2} s", took.median(), took.at(1.0)),
            took.at(1.0),
            Target::Within(most, "s"),
        );
    };
    tell("is killed", &killed, 2.0);
    tell("hangs", &hung, 6.0);
    Ok(())
}

/// Waits until the daemon has lanes again and every lane runs.
async fn ready(ground: &Ground, daemon: &Member, count: usize) -> anyhow::Result<()> {
    ground
        .until("the daemon has lanes", async || {
            let lanes = ground.lanes().await?;
            Ok(lanes.iter().any(|(name, _)| name == daemon.name()))
        })
        .await?;
    ground.settled(DAEMONS.into(), count).await.map(drop)
}

async fn failover(ground: &Ground, daemon: &Member, fail: impl AsyncFnOnce()) -> anyhow::Result<f64> {
    let lanes = ground.lanes().await?.into_iter();
    let tenants: Vec<TenantId> = lanes
        .filter(|(name, _)| name == daemon.name())
        .map(|(_, tenant)| tenant)
        .collect();
    anyhow::ensure!(!tenants.is_empty(), "{} runs nothing", daemon.name());
    let mut publisher = Publisher::new(ground.stack.amqp_url());
    let mut ids = Vec::new();
    fail().await;
    let started = Instant::now();
    for &tenant in &tenants {
        let id = Uuid::now_v7();
        let properties = BasicProperties::default()
            .with_message_id(id.to_string().into())
            .with_delivery_mode(PERSISTENT);
        publisher
            .send_one(tenant, &load::body(tenant, 1, 256), properties)
            .await?;
        ids.push(id);
    }
    let tenants: Vec<Uuid> = tenants.into_iter().map(|tenant| tenant.0).collect();
    let end = ground
        .until("every message is stored", async || {
            let stored = sqlx::query_scalar::<_, i64>(
                "select count(*) from messages where tenant_id = any($1) and id = any($2)",
            );
            let stored = stored
                .bind(&tenants)
                .bind(&ids)
                .fetch_one(ground.stack.database())
                .await?;
            Ok(stored as usize == ids.len())
        })
        .await?;
    Ok((end - started).as_secs_f64())
}
