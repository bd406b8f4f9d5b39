//! What moves when a daemon joins and leaves, beside the least that could.

use std::{collections::BTreeSet, time::Instant};

use common::id::TenantId;
use tests::bench::{self, Report, Target};

use crate::{ground::Ground, plan::Plan};

const DAEMONS: u16 = 3;
/// A new tenant's.
const WORKERS: usize = 3;

pub(crate) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let mut ground = Ground::start(DAEMONS).await?;
    let count = plan.fleet_tenants;
    bench::tenants(&ground.rest, "moves", count, "active").await?;
    ground.settled(DAEMONS.into(), count).await?;

    let before = ground.lanes().await?;
    let started = Instant::now();
    let joining = ground.stack.add_daemon().await?.name().to_owned();
    ground
        .until("the new daemon has lanes", async || {
            Ok(!of(&ground.lanes().await?, &joining).is_empty())
        })
        .await?;
    let took = ground.settled(usize::from(DAEMONS) + 1, count).await? - started;
    let after = ground.lanes().await?;
    let fair = (count * WORKERS).div_ceil(usize::from(DAEMONS) + 1);
    // How far from even it may stay is the assigner's rule: a tenth, or the part of a lane that no move evens out.
    let bound = fair + (fair / 10).max(WORKERS - 1);
    let least: usize = daemons(&before)
        .iter()
        .map(|daemon| {
            let load = of(&before, daemon).len() * WORKERS;
            load.saturating_sub(bound).div_ceil(WORKERS)
        })
        .sum();
    tell(
        report,
        "joins three",
        count,
        &before,
        &after,
        least,
        took.as_secs_f64(),
    );

    let leaving = format!("ingest-daemon-{}", DAEMONS + 1);
    let (before, least) = (after.clone(), of(&after, &leaving).len());
    let started = Instant::now();
    ground.stack.member(&leaving)?.terminate().await;
    let took = ground.settled(DAEMONS.into(), count).await? - started;
    let after = ground.lanes().await?;
    tell(
        report,
        "leaves four",
        count,
        &before,
        &after,
        least,
        took.as_secs_f64(),
    );
    Ok(())
}

type Lanes = BTreeSet<(String, TenantId)>;

fn daemons(lanes: &Lanes) -> BTreeSet<&str> {
    lanes.iter().map(|(daemon, _)| daemon.as_str()).collect()
}

fn of(lanes: &Lanes, name: &str) -> Vec<TenantId> {
    let of = lanes.iter().filter(|(daemon, _)| daemon == name);
    of.map(|(_, tenant)| *tenant).collect()
}

fn tell(
    report: &mut Report,
    what: &str,
    count: usize,
    before: &Lanes,
    after: &Lanes,
    least: usize,
    seconds: f64,
) {
    let moved = after.difference(before).count();
    report.ratio(
        format!("lanes that move when a daemon {what}, {count} tenants, until all run ({seconds:.1} s)"),
        moved.to_string(),
        format!("the least {least}"),
        moved as f64 / least.max(1) as f64,
        Some(Target::AtMost(1.1)),
    );
}
