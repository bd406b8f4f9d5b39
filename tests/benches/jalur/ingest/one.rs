//! One tenant with a full queue: Jalur, the bare broker and the peers, in turns.

use tests::bench::{Report, Series, Target, rate};

use crate::{
    bare,
    ground::{CpuSeries, Ground},
    peers::{self, Node, Peers},
    plan::Plan,
};

/// Sizes of messages, and how much CPU daemon and PostgreSQL may use for one of them, in microseconds.
const SIZES: [(usize, Option<f64>); 2] = [(256, Some(11.0)), (1024, None)];

/// What is said of a size, and how much of it a round takes.
#[derive(Default)]
struct Round {
    broker: Series,
    jalur: Series,
    peers: Peers,
    plain: Series,
    cpu: CpuSeries,
}

pub(crate) async fn measure(plan: &Plan, node: Option<&Node>, report: &mut Report) -> anyhow::Result<()> {
    let ground = Ground::start(1).await?;
    for (bytes, cpu_most) in SIZES {
        let mut round = Round::default();
        for n in 0..plan.rounds {
            eprintln!("one tenant, {bytes} B, round {}", n + 1);
            take(&ground, plan, node, bytes, &mut round).await?;
        }
        tell(report, bytes, cpu_most, &round);
    }
    let peak = ground.daemon_peak()?;
    report.figure(
        "daemon's peak memory, one tenant at a time, 256 B and 1 KiB",
        format!("{peak:.0} MB"),
    );
    Ok(())
}

async fn take(
    ground: &Ground,
    plan: &Plan,
    node: Option<&Node>,
    bytes: usize,
    round: &mut Round,
) -> anyhow::Result<()> {
    let count = plan.messages;
    round
        .broker
        .push(rate(count, bare::drain(ground, 1, count, bytes).await?));

    let tenant = ground.full_tenant("one", count, bytes).await?;
    let before = ground.cpu()?;
    let took = ground.drain(tenant, count).await?;
    round.jalur.push(rate(count, took));
    round.cpu.push(ground.cpu_each(before, count)?);
    ground.delete(tenant).await?;

    round.peers.take(ground, node, 1, count, bytes).await?;
    let plain = peers::plain(ground, plan.plain_messages, bytes).await?;
    round.plain.push(rate(plan.plain_messages, plain));
    Ok(())
}

fn tell(report: &mut Report, bytes: usize, cpu_most: Option<f64>, round: &Round) {
    let what = format!("one tenant, {bytes} B");
    peers::tell_drained(report, &what, &round.jalur, &round.broker);
    round.peers.tell(report, &what, &round.jalur);
    peers::tell_plain(report, &what, &round.jalur, &round.plain);
    round.cpu.tell(report, &what, "");
    // Unknown where the services are not ours.
    if round.cpu.daemon.is_empty() {
        return;
    }
    let both = round.cpu.daemon.plus(&round.cpu.postgres).median();
    let (what, figure) = (
        format!("{what}: CPU a message, daemon and PostgreSQL"),
        format!("{both:.1} µs"),
    );
    match cpu_most {
        Some(most) => report.bounded(what, figure, both, Target::Within(most, "µs")),
        None => report.figure(what, figure),
    }
}
