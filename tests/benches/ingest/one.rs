//! One tenant with a full queue: Jalur, the bare broker, the bare database and two reference peers, in turns.

use tests::bench::{Report, Series, Target, rate, thousands};

use crate::{
    bare,
    ground::{Cpu, Ground},
    peers,
    plan::Plan,
};

/// What is said of every size, and how much of it a round takes.
#[derive(Default)]
struct Round {
    broker: Series,
    copy: Series,
    both: Series,
    jalur: Series,
    batched: Series,
    plain: Series,
    /// Microseconds of CPU a message.
    broker_cpu: Series,
    daemon_cpu: Series,
    postgres_cpu: Series,
}

pub(crate) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let ground = Ground::start().await?;
    for bytes in [256, 1024] {
        let mut round = Round::default();
        for n in 0..plan.rounds {
            eprintln!("one tenant, {bytes} B, round {}", n + 1);
            take(&ground, plan, bytes, &mut round).await?;
        }
        tell(report, bytes, &round);
    }
    let peak = ground.daemon_peak()?;
    report.figure(
        "daemon's peak memory, one tenant at a time, 256 B and 1 KiB",
        format!("{peak:.0} MB"),
    );
    Ok(())
}

async fn take(ground: &Ground, plan: &Plan, bytes: usize, round: &mut Round) -> anyhow::Result<()> {
    let count = plan.messages;
    round
        .broker
        .push(rate(count, bare::drain(ground, count, bytes).await?));
    round
        .copy
        .push(rate(count, bare::copy(ground, count, bytes).await?));
    round
        .both
        .push(rate(count, bare::drain_and_copy(ground, count, bytes).await?));

    let tenant = ground.full_tenant("one", count, bytes).await?;
    let before = ground.cpu()?;
    let took = ground.drain(tenant, count).await?;
    round.jalur.push(rate(count, took));
    if let (Some(before), Some(after)) = (before, ground.cpu()?) {
        let each = |part: fn(Cpu) -> f64| (part(after) - part(before)) * 1e6 / count as f64;
        round.broker_cpu.push(each(|cpu| cpu.broker));
        round.daemon_cpu.push(each(|cpu| cpu.daemon));
        round.postgres_cpu.push(each(|cpu| cpu.postgres));
    }
    ground.delete(tenant).await?;

    let batched = peers::batched(ground, 1, count, bytes).await?;
    round.batched.push(rate(count, batched));
    let plain = peers::plain(ground, plan.plain_messages, bytes).await?;
    round.plain.push(rate(plan.plain_messages, plain));
    Ok(())
}

fn tell(report: &mut Report, bytes: usize, round: &Round) {
    let Round {
        broker,
        copy,
        both,
        jalur,
        batched,
        plain,
        ..
    } = round;
    let slower = broker.min(copy);
    let mut beside = |what: &str, name: &str, series: &Series, target| {
        report.ratio(
            format!("one tenant, {bytes} B: {what}"),
            jalur.rate(),
            format!("{name} {}", series.rate()),
            jalur.over(series).median(),
            target,
        );
    };
    beside("the broker drained raw", "broker", broker, None);
    beside("COPY of the same rows", "COPY", copy, None);
    beside(
        "the slower of both",
        "slower",
        &slower,
        Some(Target::AtLeast(0.90)),
    );
    beside("both at once", "drained into COPY", both, None);
    beside(
        "a batched consumer",
        "batched peer",
        batched,
        Some(Target::AtLeast(1.0)),
    );
    beside(
        "the plain design",
        "plain peer",
        plain,
        Some(Target::AtLeast(5.0)),
    );
    report.ratio(
        format!("{bytes} B: both at once, the slower of both"),
        both.rate(),
        format!("slower {}", slower.rate()),
        both.over(&slower).median(),
        None,
    );
    let cpu = [&round.broker_cpu, &round.daemon_cpu, &round.postgres_cpu].map(Series::median);
    // Unknown where the services are not ours.
    if cpu.iter().all(|cpu| cpu.is_finite()) {
        let [broker, daemon, postgres] = cpu;
        report.figure(
            format!("one tenant, {bytes} B: CPU a message, broker / daemon / PostgreSQL"),
            format!("{broker:.1} / {daemon:.1} / {postgres:.1} µs"),
        );
        report.figure(
            format!("one tenant, {bytes} B: CPU of the daemon for a million messages"),
            format!("{} s", thousands(daemon)),
        );
    }
}
