//! What Jalur does, how fast, and beside what: `cargo bench -p tests`.
//!
//! Real services and real programs, by the harness of the tests. Every figure stands beside a baseline that was
//! measured in the same run, in turns with it: on a noisy machine only ratios count.
//! `-- --quick` shows in about two minutes that everything works; `-- one noise` runs only those scenarios; `-- --write`
//! puts what was run into `docs/BENCHMARKS.md` and `docs/BENCHMARKS-READING.md`, beside what other versions of the services
//! gave.
//!
//! - [`ingest`]: what becomes of messages. [`fleet`]: how fast a fleet follows what is asked of it, and what happens to
//!   it. A file for each scenario.
//! - [`reading`]: how what is stored is found, exported and followed.
//! - [`ground`]: what all of them stand on. [`fill`], [`idle`], [`probe`]: full queues, idle tenants, a steady stream.
//! - [`bare`], [`peers`]: what Jalur is set beside.

mod bare;
mod docs;
mod fill;
mod fleet;
mod ground;
mod idle;
mod ingest;
mod peers;
mod plan;
mod probe;
mod reading;

use std::time::Instant;

use anyhow::ensure;
use clap::Parser;
use tests::bench::{Report, machine};

use self::{
    fleet::{crowd, failover, growth, moves, propagation, reconnect},
    ingest::{beside, latency, noise, one, pages, retention, spread, traces, workers},
    peers::Node,
    plan::{Plan, Scenario},
};

#[derive(Debug, Parser)]
#[command(name = "jalur", about = "Measures Jalur beside its baselines")]
struct Arguments {
    /// Small numbers and one round: whether it works, not how fast it is
    #[arg(long)]
    quick: bool,
    /// Write docs/BENCHMARKS.md and docs/BENCHMARKS-READING.md
    #[arg(long)]
    write: bool,
    /// Cargo adds this
    #[arg(long, hide = true)]
    bench: bool,
    /// Only these
    scenarios: Vec<Scenario>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    ensure!(
        arguments.quick || !cfg!(debug_assertions),
        "a debug build measures nothing: run `cargo bench -p tests`"
    );
    let plan = if arguments.quick {
        Plan::quick()
    } else {
        Plan::full()
    };
    let wanted = |scenario| arguments.scenarios.is_empty() || arguments.scenarios.contains(&scenario);
    let node = if wanted(Scenario::One) || wanted(Scenario::Spread) {
        node(arguments.write).await?
    } else {
        None
    };
    let node = node.as_ref();
    let machine = machine::describe(&machine::load()).await?;
    let began = Instant::now();
    let mut reports = Vec::new();
    for scenario in Scenario::ALL.into_iter().filter(|&scenario| wanted(scenario)) {
        let started = Instant::now();
        let mut report = Report::default();
        match scenario {
            Scenario::One => one::measure(&plan, node, &mut report).await?,
            Scenario::Beside => beside::measure(&plan, &mut report).await?,
            Scenario::Spread => spread::measure(&plan, node, &mut report).await?,
            Scenario::Latency => latency::measure(&plan, &mut report).await?,
            Scenario::Noise => noise::measure(&plan, &mut report).await?,
            Scenario::Workers => workers::measure(&plan, &mut report).await?,
            Scenario::Pages => pages::measure(&plan, &mut report).await?,
            Scenario::Reading => reading::measure(&plan, &mut report).await?,
            Scenario::Retention => retention::measure(&plan, &mut report).await?,
            Scenario::Traces => traces::measure(&plan, &mut report).await?,
            Scenario::Propagation => propagation::measure(&plan, &mut report).await?,
            Scenario::Failover => failover::measure(&plan, &mut report).await?,
            Scenario::Moves => moves::measure(&plan, &mut report).await?,
            Scenario::Reconnect => reconnect::measure(&plan, &mut report).await?,
            Scenario::Growth => growth::measure(&plan, &mut report).await?,
            Scenario::Crowd => crowd::measure(&plan, &mut report).await?,
        }
        println!("{scenario:?}: {} s\n{report}", started.elapsed().as_secs());
        reports.push((scenario, report));
        // A whole run is long: what there is of it is kept, whatever comes after.
        if arguments.write {
            docs::write(&plan, &machine, &reports)?;
        }
    }
    println!("{}\n{} s in all", machine.text, began.elapsed().as_secs());
    Ok(())
}

/// The peer in Node; a run that is to be written down is not one without it.
async fn node(needed: bool) -> anyhow::Result<Option<Node>> {
    match Node::find().await {
        Ok(node) => Ok(Some(node)),
        Err(error) if needed => Err(error.context("a whole run sets Jalur beside a peer in Node")),
        Err(error) => {
            eprintln!("without the peer in Node: {error:#}");
            Ok(None)
        }
    }
}
