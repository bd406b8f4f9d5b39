//! What many tenants cost: to create one more, and to start a daemon that has them all.

use std::time::Instant;

use anyhow::Context as _;
use lapin::{options::QueueDeclareOptions, types::FieldTable};
use tests::{
    bench::{self, Report, Series, Target, rate, thousands},
    usage,
};

use crate::{ground::Ground, plan::Plan};

/// How long a daemon with 5,000 lanes may take until all consume.
const LIVE_SECONDS: f64 = 10.0;
/// What a daemon may have in memory: without lanes, and for each.
const DAEMON_MB: f64 = 30.0;
const LANE_MB: f64 = 0.008;

pub(crate) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let ground = Ground::start(1).await?;
    let (mut there, mut first) = (0, Series::default());
    for level in plan.growth {
        eprintln!("growing to {level} tenants");
        let started = Instant::now();
        bench::tenants(&ground.rest, &format!("to {level}"), level - there, "active").await?;
        let grown = rate(level - there, started.elapsed());
        if level > 0 {
            report.figure(
                format!(
                    "tenants created, 8 at a time, from {} to {}",
                    thousands(there as f64),
                    thousands(level as f64)
                ),
                format!("{grown:.0} /s"),
            );
            there = level;
            start(&ground, there, report).await?;
        }
        let mut took = Series::default();
        for n in 0..plan.creations {
            let started = Instant::now();
            bench::tenants(&ground.rest, &format!("at {level}, {n}:"), 1, "active").await?;
            took.push(started.elapsed().as_secs_f64());
        }
        there += plan.creations;
        let what = format!("CreateTenant, alone, with {} tenants", thousands(level as f64));
        if level == 0 {
            report.figure(what, took.millis());
            first = took;
        } else {
            let (ratio, beside) = (
                took.median() / first.median(),
                format!("without any {}", first.millis()),
            );
            report.ratio(what, took.millis(), beside, ratio, Some(Target::AtMost(3.0)));
        }
    }
    Ok(())
}

/// Sees that the broker says so, too: a figure is not to rest on what the daemon reports of itself.
async fn consumed(ground: &Ground) -> anyhow::Result<()> {
    let connection = ground.stack.amqp().await?;
    let channel = connection.create_channel().await?;
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    for (_, tenant) in ground.lanes().await? {
        let queue = channel
            .queue_declare(tenant.queue().into(), passive, FieldTable::default())
            .await?;
        let consumers = queue.consumer_count();
        anyhow::ensure!(consumers == 1, "the queue of {tenant} has {consumers} consumers");
    }
    Ok(connection.close(200, "seen".into()).await?)
}

/// Starts the daemon with so many tenants.
async fn start(ground: &Ground, lanes: usize, report: &mut Report) -> anyhow::Result<()> {
    let daemon = ground.stack.member("ingest-daemon-1")?;
    daemon.terminate().await;
    let broker = || -> Option<u64> {
        let native = ground.stack.environment().native().ok()?;
        usage::memory(native.rabbitmq().process()?.pid())
    };
    let before = broker();
    let started = Instant::now();
    daemon.start_again()?;
    let took = (ground.settled(1, lanes).await? - started).as_secs_f64();
    consumed(ground).await?;
    let many = thousands(lanes as f64);
    let within = Target::Within(LIVE_SECONDS, "s");
    report.bounded(
        format!("a daemon's start until its {many} lanes consume"),
        format!("{took:.1} s"),
        took,
        within,
    );
    let memory = usage::memory(daemon.pid()).context("the kernel does not tell")? as f64 / 1e6;
    report.bounded(
        format!("its memory with {many} idle lanes"),
        format!("{memory:.0} MB"),
        memory,
        Target::Within(DAEMON_MB + LANE_MB * lanes as f64, "MB"),
    );
    if let (Some(before), Some(after)) = (before, broker()) {
        report.figure(
            format!("what {many} consumers add to the broker's memory"),
            format!("{:.0} MB", (after as f64 - before as f64) / 1e6),
        );
    }
    let started = Instant::now();
    daemon.terminate().await;
    report.figure(
        format!("its stop, with {many} idle lanes"),
        format!("{:.1} s", started.elapsed().as_secs_f64()),
    );
    daemon.start_again()?;
    ground.settled(1, lanes).await?;
    Ok(())
}
