//! One busy tenant among idle ones, in turns with one that is alone: idle neighbours are to cost it nothing.

use tests::bench::{Report, Series, Target, thousands};

use crate::{ground::Ground, idle, plan::Plan};

const BYTES: usize = 256;
const TARGETS: [f64; 3] = [0.97, 0.97, 0.93];

/// Two stacks take turns, and only one daemon runs at a time. The idle tenants' queues are in the broker in either turn:
/// what they cost there is not in the ratio.
pub(crate) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let (alone, crowded) = (Ground::start(1).await?, Ground::start(1).await?);
    for ground in [&alone, &crowded] {
        ground.daemon()?.terminate().await;
    }
    let mut there = 0;
    for (count, target) in plan.idle.into_iter().zip(TARGETS) {
        idle::add(&crowded, count - there).await?;
        there = count;
        let (mut without, mut with) = (Series::default(), Series::default());
        let mut peak_megabytes: f64 = 0.0;
        for round in 1..=plan.rounds {
            eprintln!("one tenant beside {count} idle ones, round {round}");
            without.push(take(&alone, 0, plan.messages).await?.0);
            let (rate, peak) = take(&crowded, count, plan.messages).await?;
            with.push(rate);
            peak_megabytes = peak_megabytes.max(peak);
        }
        let beside = format!("one tenant beside {} idle ones", thousands(count as f64));
        report.ratio(
            beside.clone(),
            with.rate(),
            format!("alone {}", without.rate()),
            with.over(&without).median(),
            Some(Target::AtLeast(target)),
        );
        report.figure(
            format!("daemon's peak memory, {beside}"),
            format!("{peak_megabytes:.0} MB"),
        );
    }
    Ok(())
}

/// The rate of a busy tenant beside so many, and the most memory of the daemon, in MB.
async fn take(ground: &Ground, idle: usize, count: usize) -> anyhow::Result<(f64, f64)> {
    ground.daemon()?.start_again()?;
    ground.settled(1, idle).await?;
    let tenant = ground.full_tenant("busy", count, BYTES).await?;
    let rate = ground.pace(&[tenant], count, ground.activate(tenant)).await?;
    ground.holds(tenant, count).await?;
    let peak = ground.daemon_peak()?;
    ground.delete(tenant).await?;
    ground.daemon()?.terminate().await;
    Ok((rate, peak))
}
