//! One busy tenant among idle ones, in turns with one that is alone: idle neighbours are to cost it nothing.

use tests::bench::{Report, Series, Target, thousands};

use crate::{
    ground::{Cpu, CpuSeries, Ground},
    idle,
    plan::Plan,
};

const BYTES: usize = 256;
const TARGETS: [f64; 3] = [0.97, 0.97, 0.93];

/// What the turns of one kind gave.
#[derive(Default)]
struct Turns {
    rates: Series,
    cpu: CpuSeries,
}

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
        let (mut without, mut with) = (Turns::default(), Turns::default());
        let mut peak_megabytes: f64 = 0.0;
        for round in 1..=plan.rounds {
            eprintln!("one tenant beside {count} idle ones, round {round}");
            let (rate, cpu, _) = take(&alone, 0, plan.messages).await?;
            without.rates.push(rate);
            without.cpu.push(cpu);
            let (rate, cpu, peak) = take(&crowded, count, plan.messages).await?;
            with.rates.push(rate);
            with.cpu.push(cpu);
            peak_megabytes = peak_megabytes.max(peak);
        }
        let beside = format!("one tenant beside {} idle ones", thousands(count as f64));
        report.ratio(
            beside.clone(),
            with.rates.rate(),
            format!("alone {}", without.rates.rate()),
            with.rates.over(&without.rates).median(),
            Some(Target::AtLeast(target)),
        );
        with.cpu
            .tell(report, &beside, &format!(", alone {}", without.cpu.text()));
        report.figure(
            format!("daemon's peak memory, {beside}"),
            format!("{peak_megabytes:.0} MB"),
        );
    }
    Ok(())
}

/// The rate of a busy tenant beside so many, what it took, and the most memory of the daemon, in MB.
async fn take(ground: &Ground, idle: usize, count: usize) -> anyhow::Result<(f64, Option<Cpu>, f64)> {
    ground.daemon()?.start_again()?;
    ground.settled(1, idle).await?;
    ground.calm().await?;
    let tenant = ground.full_tenant("busy", count, BYTES).await?;
    let before = ground.cpu()?;
    let rate = ground.pace(&[tenant], count, ground.activate(tenant)).await?;
    let cpu = ground.cpu_each(before, count)?;
    ground.holds(tenant, count).await?;
    let peak = ground.daemon_peak()?;
    ground.delete(tenant).await?;
    ground.daemon()?.terminate().await;
    Ok((rate, cpu, peak))
}
