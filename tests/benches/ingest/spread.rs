//! The same number of messages over one and over many tenants, each number with a stack of its own, in turns.

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

/// One number of tenants after the other is set beside one tenant, and removed again: thousands of idle queues cost the
/// broker a fifth of a core, and are to cost it where they are measured only.
pub(crate) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let mut one = Spread::new(1).await?;
    let targets = [None, Some(Target::AtLeast(0.90)), Some(Target::AtLeast(0.70))];
    for (n, (count, target)) in plan.tenants.into_iter().zip(targets).enumerate() {
        let mut many = Spread::new(count).await?;
        let (mut batched, mut looped) = (Series::default(), Series::default());
        one.rates = Series::default();
        for round in 1..=plan.rounds {
            eprintln!("one tenant and {count}, round {round}");
            one.take(plan.messages).await?;
            many.take(plan.messages).await?;
            if n == 0 {
                let took = peers::batched(&many.ground, count, plan.messages, BYTES).await?;
                batched.push(rate(plan.messages, took));
                let took = peers::batched_loop(&many.ground, count, plan.messages, BYTES).await?;
                looped.push(rate(plan.messages, took));
            }
        }
        if n == 0 {
            many.beside_peer(report, "a batched consumer, a loop for all", &looped);
            many.beside_peer(report, "a batched consumer, a task for each", &batched);
        }
        many.beside_one(report, &one, target);
        // The bound is one on a thousand tenants.
        many.peak(report, (n == 1).then_some(Target::Below(100.0, "MB")));
    }
    one.peak(report, None);
    Ok(())
}

impl Spread {
    async fn new(count: usize) -> anyhow::Result<Self> {
        eprintln!("creating {count} tenants");
        let ground = Ground::start().await?;
        let tenants = ground.tenants("spread", count, "active").await?;
        // Only one daemon runs at a time.
        ground.daemon()?.terminate().await;
        Ok(Self {
            ground,
            tenants,
            rates: Series::default(),
            peak_megabytes: 0.0,
        })
    }

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

    fn name(&self) -> String {
        match self.tenants.len() {
            1 => "one tenant".into(),
            count => format!("{} tenants", thousands(count as f64)),
        }
    }

    fn beside_peer(&self, report: &mut Report, what: &str, peer: &Series) {
        report.ratio(
            format!("{}: {what}", self.name()),
            self.rates.rate(),
            format!("batched peer {}", peer.rate()),
            self.rates.over(peer).median(),
            Some(Target::AtLeast(1.2)),
        );
    }

    fn beside_one(&self, report: &mut Report, one: &Self, target: Option<Target>) {
        report.ratio(
            format!("{}: one tenant", self.name()),
            self.rates.rate(),
            format!("one tenant {}", one.rates.rate()),
            self.rates.over(&one.rates).median(),
            target,
        );
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
