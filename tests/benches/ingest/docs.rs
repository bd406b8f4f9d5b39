//! Writes `docs/BENCHMARKS.md`.

use std::{fs, path::Path};

use anyhow::Context as _;
use tests::bench::{Report, thousands};

use crate::plan::Plan;

pub(crate) fn write(plan: &Plan, machine: &str, report: &Report) -> anyhow::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("this crate is in no workspace")?
        .join("docs/BENCHMARKS.md");
    fs::write(&path, text(plan, machine, report)).with_context(|| path.display().to_string())
}

fn text(plan: &Plan, machine: &str, report: &Report) -> String {
    let (messages, rounds, seconds) = (
        thousands(plan.messages as f64),
        plan.rounds,
        plan.steady.as_secs(),
    );
    let note = if plan.quick {
        "**These are the figures of `--quick`: they show that the bench works, and nothing else.**\n\n"
    } else {
        ""
    };
    format!(
        "# Benchmarks

Written by `cargo bench -p tests --bench ingest -- --write`; `-- --quick` shows within a minute that it works, and
`-- one noise` runs only those scenarios.

{note}{machine}

{report}
## How to read it

A figure is the median of {rounds} rounds, with the smallest and the largest of them in brackets. A ratio is the median
of the rounds' ratios: what it compares was measured one right after the other, in the same run. The machine is small
and not ours alone, and publisher, services and programs share its cores: rates go up and down with the neighbours
from one run to the next, by a third and more, ratios much less. Where the brackets are wide, so is the truth.

- **One tenant.** {messages} messages wait in the queue of a paused tenant. Timed from the PATCH that makes it active
  until the last row is stored: the assignment and the subscription are in it. *Broker*: the same messages consumed,
  acknowledged 250 at a time and dropped. *COPY*: the same rows, one statement, into a table like the tenant's
  partition. The queue is refilled and a checkpoint made before each.
- **Both at once.** The same queue drained while rows that were made beforehand are copied, 1,000 to a commit, as many
  as were delivered; acknowledged after it. Nothing is read from a message. Whatever stores what it consumes does this
  and more, so this over the slower of both is about what the machine's cores leave of it.
- **Peers.** Rust on the same libraries, with a table partitioned and indexed as Jalur's. *Plain*: one INSERT and one
  ack for each message, five workers. *Batched*: up to 500 rows an INSERT and one `multiple` ack. Over many tenants
  there are two of them: *a loop for all* is one channel, one connection and whatever tenants come next, as most would
  write it; *a task for each* has a channel for every queue and four connections, and more to look after. None has
  positions that a reader can resume from, fairness, retries or dead letters.
- **Many tenants.** {messages} messages over so many queues, filled while the daemon is down. Timed from the first
  message that it stores to the last, one tenant likewise. Each number of tenants is measured in turns with one tenant
  and removed before the next comes: what thousands of idle queues cost the broker (6,100 tenants: a fifth of a core, to
  its management plugin) belongs to no other figure. A batched peer's time counts from its first consumer on.
- **Published to readable.** From just before publishing until the tenant's counter, which moves in the transaction
  that stores the row, is seen past it. It is looked at every 0.2 ms, so that a figure is too large by half a
  millisecond at most. {seconds} s at a steady rate. *Hop*: published to received, on an idle broker; *commit*: one row
  on an idle database, in turns; medians. The bound on p99 counts from these medians too; the bare p99 stands
  beside them, since a busy machine has one of its own.
- **CPU** is that of whole process trees, user and system, from the activation to the last row. **Peak memory** is the
  kernel's `VmHWM`.
- **Workers.** A proxy delays what goes to the database by 20 ms.
"
    )
}
