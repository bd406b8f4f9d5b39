//! From published to readable, at 1,000 messages a second, beside what broker and database take on their own.

use tests::bench::{Report, Series, Target};

use crate::{
    bare,
    ground::Ground,
    plan::Plan,
    probe::{self, Stream},
};

const TENANTS: usize = 20;
const PER_SECOND: u32 = 1_000;
const BYTES: usize = 256;
/// Enough for a median.
const BARE_TIMES: usize = 500;

pub(crate) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let ground = Ground::start(1).await?;
    let (mut hops, mut commits) = (Series::default(), Series::default());
    let mut bare_p99 = Series::default();
    let (mut p50, mut p99) = (Series::default(), Series::default());
    for n in 0..plan.rounds {
        eprintln!("latency, round {}", n + 1);
        let (hop, commit) = bare::hop_and_commit(&ground, BARE_TIMES, BYTES).await?;
        hops.push(hop.median());
        commits.push(commit.median());
        bare_p99.push(hop.plus(&commit).at(0.99));
        // Fresh ones: every message of theirs is the probe's.
        let tenants = ground.tenants(&format!("steady {n}"), TENANTS, "active").await?;
        let stream = Stream {
            tenants: &tenants,
            per_second: PER_SECOND,
            during: plan.steady,
            bytes: BYTES,
        };
        let took = probe::run(&ground, &stream).await?;
        p50.push(took.at(0.50));
        p99.push(took.at(0.99));
        for tenant in tenants {
            ground.delete(tenant).await?;
        }
    }
    // The bound on p99 counts from the bare median as well; the bare p99 says how much of it is the machine's.
    let sum = hops.plus(&commits);
    let beside = format!(
        "hop {:.2} + commit {:.2} = {}; their own p99 {}",
        hops.median() * 1e3,
        commits.median() * 1e3,
        sum.millis(),
        bare_p99.millis()
    );
    for (name, series, bound) in [("p50", &p50, 2.2), ("p99", &p99, 7.0)] {
        report.ratio(
            format!("published to readable, 1,000 /s over {TENANTS} tenants: {name}"),
            series.millis(),
            beside.clone(),
            series.over(&sum).median(),
            Some(Target::AtMost(bound)),
        );
    }
    Ok(())
}
