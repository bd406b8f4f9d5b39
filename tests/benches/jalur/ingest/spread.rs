//! The same number of messages over one and over many tenants, each number with a stack of its own, in turns.

use common::id::TenantId;
use tests::bench::{Report, Series, Target, rate, thousands};

use crate::{
    bare, fill,
    ground::{CpuSeries, Ground},
    peers::{self, Node, Peers},
    plan::Plan,
};

const BYTES: usize = 256;

/// A number of tenants, and what was measured with it.
struct Spread {
    ground: Ground,
    tenants: Vec<TenantId>,
    rates: Series,
    cpu: CpuSeries,
    peak_megabytes: f64,
}

/// One number of tenants after the other is set beside one tenant, or the first beside the peers, and removed again:
/// thousands of idle queues cost the broker a fifth of a core, and are to cost it where they are measured only.
pub(crate) async fn measure(plan: &Plan, node: Option<&Node>, report: &mut Report) -> anyhow::Result<()> {
    let [few, many @ ..] = plan.tenants;
    beside_peers(plan, few, node, report).await?;
    let mut one = Spread::new(1).await?;
    // The bound on memory is one on a thousand tenants.
    let targets = [(0.90, Some(Target::Below(100.0, "MB"))), (0.70, None)];
    for (count, (target, memory)) in many.into_iter().zip(targets) {
        let mut many = Spread::new(count).await?;
        (one.rates, one.cpu) = (Series::default(), CpuSeries::default());
        for round in 1..=plan.rounds {
            eprintln!("one tenant and {count}, round {round}");
            one.take(plan.spread_messages).await?;
            many.take(plan.spread_messages).await?;
        }
        report.ratio(
            format!("{} busy", many.name()),
            many.rates.rate(),
            format!("one tenant {}", one.rates.rate()),
            many.rates.over(&one.rates).median(),
            Some(Target::AtLeast(target)),
        );
        let beside = format!(", one tenant {}", one.cpu.text());
        many.cpu.tell(report, &format!("{} busy", many.name()), &beside);
        many.peak(report, memory);
    }
    one.peak(report, None);
    Ok(())
}

async fn beside_peers(
    plan: &Plan,
    count: usize,
    node: Option<&Node>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut few = Spread::new(count).await?;
    let (mut broker, mut peers) = (Series::default(), Peers::default());
    for round in 1..=plan.rounds {
        eprintln!("{count} tenants and the peers, round {round}");
        few.take(plan.messages).await?;
        let ground = &few.ground;
        let drained = bare::drain(ground, count, plan.messages, BYTES).await?;
        broker.push(rate(plan.messages, drained));
        peers.take(ground, node, count, plan.messages, BYTES).await?;
    }
    let what = format!("{} busy", few.name());
    peers::tell_drained(report, &what, &few.rates, &broker);
    peers.tell(report, &what, &few.rates);
    few.peak(report, None);
    Ok(())
}

impl Spread {
    async fn new(count: usize) -> anyhow::Result<Self> {
        eprintln!("creating {count} tenants");
        let ground = Ground::start(1).await?;
        let tenants = ground.tenants("spread", count, "active").await?;
        // Only one daemon runs at a time.
        ground.daemon()?.terminate().await;
        Ok(Self {
            ground,
            tenants,
            rates: Series::default(),
            cpu: CpuSeries::default(),
            peak_megabytes: 0.0,
        })
    }

    /// Fills the queues while the daemon is down; then times it from the first message that it stores to the last.
    async fn take(&mut self, count: usize) -> anyhow::Result<()> {
        let ground = &self.ground;
        ground.fill(&fill::queues(&self.tenants), count, BYTES).await?;
        let before = ground.cpu()?;
        let start = async { ground.daemon()?.start_again() };
        self.rates.push(ground.pace(&self.tenants, count, start).await?);
        self.cpu.push(ground.cpu_each(before, count)?);
        self.peak_megabytes = self.peak_megabytes.max(ground.daemon_peak()?);
        ground.daemon()?.terminate().await;
        Ok(())
    }

    fn name(&self) -> String {
        match self.tenants.len() {
            1 => "one tenant".into(),
            count => format!("{} tenants", thousands(count as f64)),
        }
    }

    fn peak(&self, report: &mut Report, target: Option<Target>) {
        let what = format!("daemon's peak memory, {} busy", self.name());
        let peak = format!("{:.0} MB", self.peak_megabytes);
        match target {
            Some(target) => report.bounded(what, peak, self.peak_megabytes, target),
            None => report.figure(what, peak),
        }
    }
}
