//! What a call costs in a long history, beside the same in a short one.

use std::time::Instant;

use anyhow::ensure;
use common::id::TenantId;
use tests::bench::{Report, Series, Target, thousands};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use crate::{ground::Ground, plan::Plan};

const SHORT: usize = 1_000;
const LIMIT: usize = 100;
/// Rows of one INSERT: what a shared machine's memory does not notice.
const BATCH: usize = 50_000;

/// A tenant's history, and where its middle is.
struct History {
    tenant: TenantId,
    count: usize,
    id: Uuid,
    time: OffsetDateTime,
}

/// How many times as long a call may take where the history is long.
const AS_FAST: f64 = 1.2;

/// What is called of a history, how, and how many times as long as of a short one it may take.
type Call = (&'static str, fn(&History) -> String, Option<f64>);

/// Answers the tenant with the long one.
pub(super) async fn measure(ground: &Ground, plan: &Plan, report: &mut Report) -> anyhow::Result<TenantId> {
    let tenants = ground.tenants("history", 2, "paused").await?;
    eprintln!("a history of {} messages", plan.long_history);
    let short = fill(ground, tenants[0], SHORT).await?;
    let long = fill(ground, tenants[1], plan.long_history).await?;
    sqlx::query("vacuum analyze messages")
        .execute(ground.stack.database())
        .await?;
    ground.settle().await?;
    let calls: [Call; 4] = [
        (
            "one message by its id",
            |history| format!("/{}", history.id),
            Some(AS_FAST),
        ),
        (
            "a page of 100 at the end",
            |history| format!("?limit={LIMIT}&cursor={}", history.count - LIMIT),
            Some(AS_FAST),
        ),
        (
            "the newest 100",
            |_| format!("?limit={LIMIT}&order=newest"),
            Some(AS_FAST),
        ),
        // Ten seconds before it are looked at row by row, which the short one does not have.
        (
            "100 from a time on",
            |history| {
                let time = history.time.format(&Rfc3339).unwrap_or_default();
                format!("?limit={LIMIT}&created_after={time}")
            },
            None,
        ),
    ];
    for (what, query, at_most) in calls {
        let (mut of_long, mut of_short) = (Series::default(), Series::default());
        for _ in 0..plan.page_reads {
            of_long.push(call(ground, &long, query).await?);
            of_short.push(call(ground, &short, query).await?);
        }
        // Thousands of single reads: their extremes say nothing.
        let middle = |series: &Series| [series.median()].into_iter().collect::<Series>().millis();
        report.ratio(
            format!("{what}, of {} messages", thousands(plan.long_history as f64)),
            middle(&of_long),
            format!("of {}: {}", thousands(SHORT as f64), middle(&of_short)),
            of_long.median() / of_short.median(),
            at_most.map(Target::AtMost),
        );
    }
    Ok(long.tenant)
}

/// Messages of 256 B, one each millisecond, and the counter past them, as the daemon would have left them.
async fn fill(ground: &Ground, tenant: TenantId, count: usize) -> anyhow::Result<History> {
    let database = ground.stack.database();
    let begin = OffsetDateTime::now_utc() - time::Duration::milliseconds(count.try_into()?);
    for first in (1..=count).step_by(BATCH) {
        sqlx::query(
            "insert into messages (id, tenant_id, payload, position, created_at)
             select gen_random_uuid(), $1, jsonb_build_object('number', n, 'pad', repeat('x', 220)), n,
                    $4 + n * interval '1 millisecond'
             from generate_series($2::bigint, $3::bigint) as n",
        )
        .bind(tenant.0)
        .bind(i64::try_from(first)?)
        .bind(i64::try_from((first + BATCH - 1).min(count))?)
        .bind(begin)
        .execute(database)
        .await?;
    }
    sqlx::query("update positions set last = $2 where tenant_id = $1")
        .bind(tenant.0)
        .bind(i64::try_from(count)?)
        .execute(database)
        .await?;
    let (id, time) =
        sqlx::query_as("select id, created_at from messages where tenant_id = $1 and position = $2")
            .bind(tenant.0)
            .bind(i64::try_from(count / 2)?)
            .fetch_one(database)
            .await?;
    Ok(History {
        tenant,
        count,
        id,
        time,
    })
}

/// How many seconds one call takes.
async fn call(ground: &Ground, history: &History, query: fn(&History) -> String) -> anyhow::Result<f64> {
    let path = format!("/api/tenants/{}/messages{}", history.tenant, query(history));
    let started = Instant::now();
    let answer = ground.rest.get(&path).await?;
    let took = started.elapsed();
    let found = answer.expect(200)?;
    let rows = found["data"].as_array().map_or(1, Vec::len);
    ensure!(rows == 1 || rows == LIMIT, "{path} found {rows}");
    Ok(took.as_secs_f64())
}
