//! The same number of messages over one and over many tenants, each number with a stack of its own, in turns.

use anyhow::Context as _;
use common::id::TenantId;

use tests::bench::{Report, Series, Target, rate, thousands};

use crate::{fill, ground::Ground, peers, plan::Plan};

const BYTES: usize = 256;

/// A number of tenants, and what was measured with it.
struct Spread {
    ground: Ground,
    tenants: Vec<TenantId>,
    rates: Series,
    peak_megabytes: f64,
}

pub(crate) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let mut all = Vec::new();
    for count in plan.tenants {
        eprintln!("creating {count} tenants");
        let ground = Ground::start().await?;
        let tenants = ground.tenants("spread", count, "active").await?;
        // Only one daemon runs at a time.
        ground.daemon()?.terminate().await;
        all.push(Spread {
            ground,
            tenants,
            rates: Series::default(),
            peak_megabytes: 0.0,
        });
    }
    let (mut batched, peers_at) = (Series::default(), plan.tenants[1]);
    for n in 0..plan.rounds {
        for spread in &mut all {
            eprintln!("{} tenants, round {}", spread.tenants.len(), n + 1);
            spread.take(plan.messages).await?;
        }
        let took = peers::batched(&all[1].ground, peers_at, plan.messages, BYTES).await?;
        batched.push(rate(plan.messages, took));
    }
    tell(report, &all, &batched)
}

impl Spread {
    /// Fills the queues while the daemon is down; then times it from the first message that it stores to the last. How
    /// long it takes to start is another question.
    async fn take(&mut self, count: usize) -> anyhow::Result<()> {
        let ground = &self.ground;
        fill::fill(&ground.amqp, &fill::queues(&self.tenants), count, BYTES).await?;
        ground.settle().await?;
        let before = ground.stored().await?;
        ground.daemon()?.start_again()?;
        let first = ground.reaches(before + 1).await?;
        // What the first look saw came before it.
        let seen = ground.stored().await? - before;
        let last = ground.reaches(before + count).await?;
        self.rates.push(rate(count - seen.min(count / 2), last - first));
        let peak = ground.daemon_peak()?;
        self.peak_megabytes = self.peak_megabytes.max(peak);
        ground.daemon()?.terminate().await;
        Ok(())
    }
}

fn tell(report: &mut Report, all: &[Spread], batched: &Series) -> anyhow::Result<()> {
    let [one, rest @ ..] = all else {
        return Ok(());
    };
    let hundred = rest.first().context("no second number of tenants")?;
    report.ratio(
        format!("{} tenants: a batched consumer", hundred.tenants.len()),
        hundred.rates.rate(),
        format!("batched peer {}", batched.rate()),
        hundred.rates.over(batched).median(),
        Some(Target::AtLeast(1.2)),
    );
    let targets = [None, Some(Target::AtLeast(0.90)), Some(Target::AtLeast(0.70))];
    for (spread, target) in rest.iter().zip(targets) {
        report.ratio(
            format!("{} tenants: one tenant", thousands(spread.tenants.len() as f64)),
            spread.rates.rate(),
            format!("one tenant {}", one.rates.rate()),
            spread.rates.over(&one.rates).median(),
            target,
        );
    }
    for (n, spread) in all.iter().enumerate() {
        let what = format!(
            "daemon's peak memory, {} busy tenants",
            thousands(spread.tenants.len() as f64)
        );
        let peak = format!("{:.0} MB", spread.peak_megabytes);
        if n == 2 {
            report.bounded(what, peak, spread.peak_megabytes, Target::Below(100.0, "MB"));
        } else {
            report.figure(what, peak);
        }
    }
    Ok(())
}
