//! From SetConcurrency to applied.

use std::time::Instant;

use anyhow::ensure;
use serde_json::json;
use tests::bench::{self, Report, Series, Target, thousands};

use crate::{ground::Ground, plan::Plan};

pub(crate) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    for count in plan.propagation_tenants {
        eprintln!("propagation with {count} tenants");
        let ground = Ground::start(1).await?;
        let tenants = bench::tenants(&ground.rest, "propagation", count, "active").await?;
        ground.settled(1, count).await?;
        let mut took = Series::default();
        for change in 0..plan.changes {
            let path = format!("/api/tenants/{}/config/concurrency", tenants[change % count]);
            // Never the number that it has.
            let workers = 4 + (change / count) % 2;
            let started = Instant::now();
            let answer = ground
                .rest
                .put(&path, &json!({ "workers": workers }))
                .await?
                .expect(200)?;
            ensure!(answer["applied"] == true, "{answer}");
            took.push(started.elapsed().as_secs_f64());
        }
        let p99 = took.at(0.99) * 1e3;
        report.bounded(
            format!(
                "SetConcurrency to applied, {} tenants: p50 / p99",
                thousands(count as f64)
            ),
            format!("{:.1} / {p99:.1} ms", took.median() * 1e3),
            p99,
            Target::Within(100.0, "ms"),
        );
    }
    Ok(())
}
