//! Ingest while retention removes from the same table, in turns with ingest into a table as large that keeps everything.

use std::time::Instant;

use common::id::TenantId;
use serde_json::json;
use tests::bench::{Report, Series, Target, rate};

use super::pages::history;
use crate::{fill, ground::Ground, plan::Plan};

const BYTES: usize = 256;
/// So that there is something to remove until the last message is stored.
const KEPT: usize = 1;

/// What a turn has shown.
struct Turn {
    /// Messages stored a second.
    stored: f64,
    /// Messages removed a second, meanwhile.
    removed: f64,
}

pub(crate) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let ground = Ground::start(1).await?;
    let (mut without, mut with, mut removed) = (Series::default(), Series::default(), Series::default());
    for n in 0..plan.rounds {
        eprintln!("retention, round {}", n + 1);
        without.push(take(&ground, plan, false).await?.stored);
        let turn = take(&ground, plan, true).await?;
        with.push(turn.stored);
        removed.push(turn.removed);
    }
    report.ratio(
        "one tenant, while retention removes from its table",
        with.rate(),
        format!("without retention {}", without.rate()),
        with.over(&without).median(),
        Some(Target::AtLeast(0.9)),
    );
    report.figure("messages that retention removes meanwhile", removed.rate());
    Ok(())
}

/// A full queue into a table with a long history, which goes meanwhile or stays.
async fn take(ground: &Ground, plan: &Plan, with_retention: bool) -> anyhow::Result<Turn> {
    let tenant = ground.tenants("kept", 1, "paused").await?[0];
    history(ground, tenant, plan.history).await?;
    ground
        .fill(&fill::queues(&[tenant]), plan.messages, BYTES)
        .await?;
    if with_retention {
        retain(ground, tenant).await?;
    }
    let before = rows(ground, tenant).await?;
    let began = Instant::now();
    let stored = ground
        .pace(&[tenant], plan.messages, ground.activate(tenant))
        .await?;
    let took = began.elapsed();
    let after = rows(ground, tenant).await?;
    let gone = before + plan.messages - after;
    if with_retention && after <= KEPT {
        eprintln!("everything was removed before the last message was stored: a longer history is wanted");
    }
    anyhow::ensure!(with_retention == (gone > 0), "{gone} messages were removed");
    ground.delete(tenant).await?;
    Ok(Turn {
        stored,
        removed: rate(gone, took),
    })
}

/// Sets a retention, and waits until it is at work.
async fn retain(ground: &Ground, tenant: TenantId) -> anyhow::Result<()> {
    let before = rows(ground, tenant).await?;
    let path = format!("/api/tenants/{tenant}/config/retention");
    let kept = json!({ "max_messages": KEPT });
    ground.rest.put(&path, &kept).await?.expect(200)?;
    ground
        .until("retention is at work", async || {
            Ok(rows(ground, tenant).await? < before)
        })
        .await?;
    Ok(())
}

async fn rows(ground: &Ground, tenant: TenantId) -> anyhow::Result<usize> {
    let rows: i64 = sqlx::query_scalar("select count(*) from messages where tenant_id = $1")
        .bind(tenant.0)
        .fetch_one(ground.stack.database())
        .await?;
    Ok(usize::try_from(rows)?)
}
