//! Quiet tenants, with and without a neighbour whose queue is full.

use std::time::Instant;

use common::id::TenantId;
use tests::bench::{Report, Series, Target, thousands};

use crate::{
    ground::Ground,
    plan::Plan,
    probe::{self, Stream},
};

const QUIET: usize = 50;
/// Ten for each.
const PER_SECOND: u32 = 500;
const BYTES: usize = 256;

pub(crate) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let ground = Ground::start(1).await?;
    let (mut without, mut with) = (Series::default(), Series::default());
    for n in 0..plan.rounds {
        eprintln!("noise, round {}", n + 1);
        let noisy = ground
            .full_tenant(&format!("noisy {n}"), plan.noise_messages, BYTES)
            .await?;
        let quiet = ground.tenants(&format!("quiet {n}"), QUIET, "active").await?;
        let beside = ground.tenants(&format!("beside {n}"), QUIET, "active").await?;
        without.push(p99(&ground, plan, &quiet).await?);

        // Both start together; the noise has to outlast the stream.
        let started = Instant::now();
        ground.activate(noisy).await?;
        with.push(p99(&ground, plan, &beside).await?);
        if ground.stored(&[noisy]).await? >= plan.noise_messages {
            eprintln!(
                "the noise ended before the stream, within {} s",
                started.elapsed().as_secs()
            );
        }
        for tenant in quiet.into_iter().chain(beside).chain([noisy]) {
            ground.delete(tenant).await?;
        }
    }
    report.ratio(
        format!(
            "p99 of {QUIET} tenants at 10 /s each, beside one with {} queued",
            thousands(plan.noise_messages as f64)
        ),
        with.millis(),
        format!("without it {}", without.millis()),
        with.over(&without).median(),
        Some(Target::AtMost(5.0)),
    );
    Ok(())
}

async fn p99(ground: &Ground, plan: &Plan, tenants: &[TenantId]) -> anyhow::Result<f64> {
    let stream = Stream {
        tenants,
        per_second: PER_SECOND,
        during: plan.steady,
        bytes: BYTES,
    };
    Ok(probe::run(ground, &stream).await?.at(0.99))
}
