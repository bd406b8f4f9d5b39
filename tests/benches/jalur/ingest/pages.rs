//! A page of 100 at both ends of a long history, through REST.

use std::time::Instant;

use anyhow::ensure;
use common::id::TenantId;

use tests::bench::{Report, Series, Target, thousands};

use crate::{ground::Ground, plan::Plan};

const LIMIT: usize = 100;
/// Rows of one INSERT: what a shared machine's memory does not notice.
const BATCH: usize = 50_000;

pub(crate) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let ground = Ground::start(1).await?;
    let tenant = ground.tenants("long", 1, "paused").await?[0];
    eprintln!("a history of {} messages", plan.history);
    history(&ground, tenant, plan.history).await?;
    let (mut start, mut end) = (Series::default(), Series::default());
    for _ in 0..plan.page_reads {
        start.push(page(&ground, tenant, 0).await?);
        end.push(page(&ground, tenant, plan.history - LIMIT).await?);
    }
    // Thousands of single reads: their extremes say nothing.
    let middle = |series: &Series| [series.median()].into_iter().collect::<Series>().millis();
    report.ratio(
        format!(
            "a page of {LIMIT} at the end of {} messages",
            thousands(plan.history as f64)
        ),
        middle(&end),
        format!("at the start {}", middle(&start)),
        end.median() / start.median(),
        Some(Target::AtMost(1.2)),
    );
    Ok(())
}

/// Messages of 256 B and the counter past them, as the daemon would have left them.
pub(crate) async fn history(ground: &Ground, tenant: TenantId, count: usize) -> anyhow::Result<()> {
    let database = ground.stack.database();
    for first in (1..=count).step_by(BATCH) {
        sqlx::query(
            "insert into messages (id, tenant_id, payload, position)
             select gen_random_uuid(), $1, jsonb_build_object('number', n, 'pad', repeat('x', 220)), n
             from generate_series($2::bigint, $3::bigint) as n",
        )
        .bind(tenant.0)
        .bind(i64::try_from(first)?)
        .bind(i64::try_from((first + BATCH - 1).min(count))?)
        .execute(database)
        .await?;
    }
    sqlx::query("update positions set last = $2 where tenant_id = $1")
        .bind(tenant.0)
        .bind(i64::try_from(count)?)
        .execute(database)
        .await?;
    sqlx::query("vacuum analyze messages").execute(database).await?;
    ground.settle().await
}

/// How many seconds one page takes.
async fn page(ground: &Ground, tenant: TenantId, cursor: usize) -> anyhow::Result<f64> {
    let path = format!("/api/tenants/{tenant}/messages?cursor={cursor}&limit={LIMIT}");
    let started = Instant::now();
    let answer = ground.rest.get(&path).await?;
    let took = started.elapsed();
    let page = answer.expect(200)?;
    ensure!(
        page["data"].as_array().is_some_and(|rows| rows.len() == LIMIT),
        "a page after {cursor} is not full"
    );
    Ok(took.as_secs_f64())
}
