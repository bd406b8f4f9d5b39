//! Quiet tenants, with and without a neighbour whose queue is full.

use std::time::Instant;

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
    let ground = Ground::start().await?;
    let (mut without, mut with) = (Series::default(), Series::default());
    for n in 0..plan.rounds {
        eprintln!("noise, round {}", n + 1);
        let noisy = ground
            .full_tenant(&format!("noisy {n}"), plan.noise_messages, BYTES)
            .await?;
        without.push(p99(&ground, plan, &format!("quiet {n}")).await?);

        // Both start together; the noise has to outlast the stream.
        let before = ground.stored().await?;
        let started = Instant::now();
        ground.activate(noisy).await?;
        with.push(p99(&ground, plan, &format!("beside {n}")).await?);
        let left = plan
            .noise_messages
            .saturating_sub(ground.stored().await? - before);
        if left == 0 {
            eprintln!(
                "the noise ended before the stream, within {} s",
                started.elapsed().as_secs()
            );
        }
        ground.delete(noisy).await?;
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

async fn p99(ground: &Ground, plan: &Plan, name: &str) -> anyhow::Result<f64> {
    let tenants = ground.tenants(name, QUIET, "active").await?;
    let stream = Stream {
        tenants: &tenants,
        per_second: PER_SECOND,
        during: plan.steady,
        bytes: BYTES,
    };
    let took = probe::run(ground, &stream).await?;
    for tenant in tenants {
        ground.delete(tenant).await?;
    }
    Ok(took.at(0.99))
}
