//! What Jalur does to messages, how fast, and beside what: `cargo bench -p tests --bench ingest`.
//!
//! Real services and real programs, by the harness of the tests. Every figure stands beside a baseline that was
//! measured in the same run, in turns with it: on a noisy machine only ratios count.
//! `-- --quick` shows within a minute that everything works; `-- one noise` runs only those scenarios; `-- --write`
//! puts the result into `docs/BENCHMARKS.md`.

mod bare;
mod docs;
mod fill;
mod ground;
mod latency;
mod noise;
mod one;
mod pages;
mod peers;
mod plan;
mod probe;
mod spread;
mod workers;

use std::time::Instant;

use anyhow::ensure;
use clap::Parser;
use tests::bench::{Report, machine};

use self::plan::{Plan, Scenario};

#[derive(Debug, Parser)]
#[command(name = "ingest", about = "Measures Jalur beside its baselines")]
struct Arguments {
    /// Small numbers and one round: whether it works, not how fast it is
    #[arg(long)]
    quick: bool,
    /// Write docs/BENCHMARKS.md; takes a whole run
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
        "a debug build measures nothing: run `cargo bench -p tests --bench ingest`"
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
            Scenario::One => one::measure(&plan, &mut report).await?,
            Scenario::Spread => spread::measure(&plan, &mut report).await?,
            Scenario::Latency => latency::measure(&plan, &mut report).await?,
            Scenario::Noise => noise::measure(&plan, &mut report).await?,
            Scenario::Pages => pages::measure(&plan, &mut report).await?,
            Scenario::Workers => workers::measure(&plan, &mut report).await?,
        }
        // A whole run is long: what it has so far can be read meanwhile.
        eprintln!("{scenario:?}: {} s\n{report}", started.elapsed().as_secs());
    }
    let machine = machine::describe(&load).await?;
    println!("{machine}\n\n{report}");
    if arguments.write {
        docs::write(&plan, &machine, &report)?;
    }
    Ok(())
}
