//! Writes `docs/BENCHMARKS-FLEET.md`.

use std::{fs, path::Path};

use anyhow::Context as _;
use tests::bench::Report;

use crate::plan::Plan;

pub(crate) fn write(plan: &Plan, machine: &str, report: &Report) -> anyhow::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("this crate is in no workspace")?
        .join("docs/BENCHMARKS-FLEET.md");
    fs::write(&path, text(plan, machine, report)).with_context(|| path.display().to_string())
}

fn text(plan: &Plan, machine: &str, report: &Report) -> String {
    let note = if plan.quick {
        "**These are the figures of `--quick`: they show that the bench works, and nothing else.**\n\n"
    } else {
        ""
    };
    format!(
        "# The fleet's benchmarks

Written by `cargo bench -p tests --bench fleet -- --write`; `-- --quick` shows that it works, and `-- failover` runs
only that scenario.

{note}{machine}

{report}
## How to read it

- **SetConcurrency to applied.** {changes} calls over REST, one after the other, each answered once the daemon runs what
  was asked for.
- **Failover.** One of three daemons gets SIGKILL or SIGSTOP. At once a message is published to each tenant that it
  ran; timed until the last of them is stored. A count of consumers would not do: one that hangs is still counted.
- **Moves.** Lanes that another daemon runs afterwards. The least is what has to leave the daemons that are above the
  assigner's bound (a tenth or 8 workers above the mean), or what the leaving daemon ran.
- **A stream that comes back** is opened by a program that only speaks the protocol, within the grace that a broken
  stream has.
- **Creating.** {creations} calls one after the other, each answered once the tenant's partition, queues and consumer
  are there.
",
        changes = plan.changes,
        creations = plan.creations,
    )
}
