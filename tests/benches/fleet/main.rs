//! How fast a fleet follows what is asked of it, and what happens to it: `cargo bench -p tests --bench fleet`.
//!
//! Real services and real programs, by the harness of the tests. `-- --quick` shows within two minutes that everything
//! works; `-- failover moves` runs only those scenarios; `-- --write` puts the result into
//! `docs/BENCHMARKS-FLEET.md`.

mod docs;
mod failover;
mod growth;
mod house;
mod moves;
mod plan;
mod propagation;
mod reconnect;

use std::time::Instant;

use anyhow::ensure;
use clap::Parser;
use tests::bench::{Report, machine};

use self::plan::{Plan, Scenario};

#[derive(Debug, Parser)]
#[command(name = "fleet", about = "Measures how fast a fleet follows")]
struct Arguments {
    /// Small numbers: whether it works, not how fast it is
    #[arg(long)]
    quick: bool,
    /// Write docs/BENCHMARKS-FLEET.md; takes a whole run
    #[arg(long, conflicts_with = "scenarios")]
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
        !cfg!(debug_assertions),
        "a debug build measures nothing: run `cargo bench -p tests --bench fleet`"
    );
    let plan = if arguments.quick {
        Plan::quick()
    } else {
        Plan::full()
    };
    let wanted = |scenario| arguments.scenarios.is_empty() || arguments.scenarios.contains(&scenario);
    let load = machine::load();
    let mut report = Report::default();
    for scenario in Scenario::ALL.into_iter().filter(|&scenario| wanted(scenario)) {
        let started = Instant::now();
        match scenario {
            Scenario::Propagation => propagation::measure(&plan, &mut report).await?,
            Scenario::Failover => failover::measure(&plan, &mut report).await?,
            Scenario::Moves => moves::measure(&plan, &mut report).await?,
            Scenario::Reconnect => reconnect::measure(&plan, &mut report).await?,
            Scenario::Growth => growth::measure(&plan, &mut report).await?,
        }
        eprintln!("{scenario:?}: {} s\n{report}", started.elapsed().as_secs());
    }
    let machine = machine::describe(&load).await?;
    println!("{machine}\n\n{report}");
    if arguments.write {
        docs::write(&plan, &machine, &report)?;
    }
    Ok(())
}
