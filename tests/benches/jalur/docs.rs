//! Writes `docs/BENCHMARKS.md` and `docs/BENCHMARKS-READING.md`: for each pair of services that it was run on, a table for each scenario.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Context as _;
use tests::bench::{Machine, Report, thousands};

use crate::plan::{Plan, Scenario};

/// How the headings of pairs begin, those of scenarios, and that of what follows them.
const PAIR: &str = "\n## PostgreSQL ";
const SCENARIO: &str = "\n### ";
const READING: &str = "\n## How to read it\n";

/// What is there: by pair, which is what a heading says after [`PAIR`], and scenario, by its heading.
type Tables = BTreeMap<String, BTreeMap<String, String>>;

/// A document, which has the tables of some scenarios.
struct Document {
    file: &'static str,
    has: fn(Scenario) -> bool,
    /// Everything around the tables: what is above, and how to read them.
    above: fn() -> String,
    below: fn(&Plan) -> String,
}

const DOCUMENTS: [Document; 2] = [
    Document {
        file: "docs/BENCHMARKS.md",
        has: |scenario| scenario != Scenario::Reading,
        above: || head("Benchmarks"),
        below,
    },
    Document {
        file: "docs/BENCHMARKS-READING.md",
        has: |scenario| scenario == Scenario::Reading,
        above: || head("Reading, measured"),
        below: below_reading,
    },
];

/// Replaces the tables of these scenarios for the pair that it ran on, and leaves others.
pub(crate) fn write(plan: &Plan, machine: &Machine, reports: &[(Scenario, Report)]) -> anyhow::Result<()> {
    for document in &DOCUMENTS {
        let reports = reports.iter().filter(|(scenario, _)| (document.has)(*scenario));
        let reports: Vec<_> = reports.collect();
        if !reports.is_empty() {
            document.write(plan, machine, &reports)?;
        }
    }
    Ok(())
}

impl Document {
    fn write(&self, plan: &Plan, machine: &Machine, reports: &[&(Scenario, Report)]) -> anyhow::Result<()> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("this crate is in no workspace")?
            .join(self.file);
        let old = fs::read_to_string(&path).unwrap_or_default();
        let mut tables = tables(&old);
        let note = if plan.quick {
            "**These are the figures of `--quick`: they show that the bench works, and nothing else.**\n\n"
        } else {
            ""
        };
        let pair = format!("{}, RabbitMQ {}", machine.postgres, machine.rabbitmq);
        let pair = tables.entry(pair).or_default();
        for (scenario, report) in reports {
            pair.insert(scenario.heading(), format!("{note}{}\n\n{report}", machine.text));
        }
        fs::write(&path, self.text(plan, &tables)).with_context(|| path.display().to_string())
    }

    fn text(&self, plan: &Plan, tables: &Tables) -> String {
        let mut text = (self.above)();
        for (pair, tables) in tables {
            text += &format!("{PAIR}{pair}\n");
            for heading in Scenario::ALL.map(Scenario::heading) {
                if let Some(table) = tables.get(&heading) {
                    text += &format!("{SCENARIO}{heading}\n\n{table}");
                }
            }
        }
        text + READING + &(self.below)(plan)
    }
}

fn tables(old: &str) -> Tables {
    let tables = old.split(READING).next().unwrap_or_default();
    let pairs = tables.split(PAIR).skip(1);
    let headed = |text: &str| {
        let (heading, text) = text.split_once('\n')?;
        Some((heading.to_owned(), text.trim_matches('\n').to_owned() + "\n"))
    };
    pairs
        .filter_map(|pair| {
            let (name, _) = pair.split_once('\n')?;
            Some((
                name.to_owned(),
                pair.split(SCENARIO).skip(1).filter_map(headed).collect(),
            ))
        })
        .collect()
}

fn head(title: &str) -> String {
    format!("# {title}

Written by `cargo bench -p tests -- --write`, which replaces the tables of the services that it ran on; `-- --write one noise`
runs and replaces only those, and `-- --quick` shows in about two minutes that it works. The newer services as root by
`cargo --config \"target.'cfg(unix)'.runner='$PWD/.ci/trixie'\" bench -p tests -- --write`.
")
}

/// How the figures of [`reading`](crate::reading) came about.
fn below_reading(plan: &Plan) -> String {
    format!(
        "
Medians of {rounds} rounds, the extremes in parentheses; release builds, all on one machine: what reads and the broker take
their part of its processors.

- **In a long history.** {reads} calls over REST in turns with the same in a short one, medians. A message a
  millisecond: of a time, which is found by halving, the ten seconds before it that are looked at row by row are 10,000.
- **Export.** `GET …/messages/stream` of the last {exported} messages, counted by the line as they come.
- **Seen by a follower.** A gRPC stream a tenant. What it takes from publishing until the message is there, less what it takes
  until the tenant's counter is seen past it, which is looked at every 0.2 ms; p50 of the one less p50 of the other.
- **Many followers.** gRPC streams, fifty a connection; each message goes to every follower of its tenant. CPU is that of the
  process's user and system time.
",
        rounds = plan.rounds,
        reads = plan.page_reads,
        exported = thousands(plan.exported as f64),
    )
}

fn below(plan: &Plan) -> String {
    let (messages, rounds, seconds) = (
        thousands(plan.messages as f64),
        plan.rounds,
        plan.steady.as_secs(),
    );
    format!(
        "
A figure of the ingest is the median of {rounds} rounds, with the smallest and the largest of them in brackets. A ratio
is the median of the rounds' ratios: what it compares was measured one right after the other, in the same run. The
machine is small and not ours alone, and publisher, services and programs share its cores: rates go up and down with
the neighbours from one run to the next, by a third and more, ratios much less. Where the brackets are wide, so is the
truth.

- **One tenant.** {messages} messages wait in the queue of a paused tenant. Timed from the PATCH that makes it active
  until the last row is stored: the assignment and the subscription are in it. *Drained raw*: the same messages consumed,
  acknowledged 250 at a time and dropped, which leaves database and daemon out. Before each a checkpoint is made, and then
  the queue refilled: it has no time to fall asleep before it is drained. (How its process collects garbage from then on
  depends on where the last collection fell, and falling asleep is one: RabbitMQ 3.10 drained 200,000 messages at 31,000 or
  at 21,000 /s, with 34 or 50 µs of its CPU each, and seldom in between.)
- **Peers.** With a table partitioned and indexed as Jalur's. *One INSERT and one ack each*: Rust on the same libraries,
  five workers. *Batched*: whatever has come, up to 500 rows an INSERT and one `multiple` ack, a prefetch of 2,000. In
  Node it is what users would write: `amqplib`, `pg`, `unnest` ([source](../tests/benches/jalur/peers/node/consumer.js)).
  In Rust, on the same libraries, over many queues there are two: *a loop for all* is one channel, one connection and
  whatever tenants come next, as most would write it; *a task for each* has a channel for every queue and four
  connections, and more to look after. *The best batched one* is the fastest of each round. None has positions that a
  reader can resume from, fairness, retries or dead letters. A peer's time counts from its first consumer on.
- **Beside idle ones.** Two stacks take turns, one with a tenant alone, the other with so many idle ones, of which each
  has its partition, its queues and its consumer. {messages} messages, timed from the first that is stored to the last.
  The idle queues are in the broker in either turn: what they cost there (6,100 tenants: a fifth of a core, to its
  management plugin) is not in the ratio. Each turn waits until the broker is at rest: thousands of queues that got or
  lost a consumer have something to tell its statistics.
- **Many busy ones.** {messages} messages beside the peers, {spread} beside one tenant, over so many queues, filled while
  the daemon is down. Timed from the first message that it stores to the last, one tenant likewise. Each number of
  tenants is removed before the next comes.
- **Published to readable.** From just before publishing until the tenant's counter, which moves in the transaction
  that stores the row, is seen past it. It is looked at every 0.2 ms, so that a figure is too large by half a
  millisecond at most. {seconds} s at a steady rate. *Hop*: published to received, on an idle broker; *commit*: one row
  on an idle database, in turns; medians. The bound on p99 counts from these medians too; the bare p99 stands
  beside them, since a busy machine has one of its own.
- **CPU** is that of whole process trees, user and system, from the activation to the last row. **Peak memory** is the
  kernel's `VmHWM`.
- **Workers.** A proxy delays what goes to the database by 20 ms.
- **While retention removes.** {messages} messages into a table with a history of {history}, which goes meanwhile, down to
  one message; in turns with the same without retention. Timed from the first message that is stored to the last.
- **While spans are sent.** Every message has a `traceparent`, one in a hundred of them sampled; to a collector that takes
  everything, in turns with the same messages where no collector is named.
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
- **With {crowd} tenants.** The same calls with {crowd} idle tenants, and with ten. What PostgreSQL alone takes for a
  partition is measured beside each creation and taken from it. Idle tenants here and above are made in bulk, their
  partitions in groups of a hundred: attaching one to ten thousand that hang below `messages` directly takes 28 to 43 ms.
",
        spread = thousands(plan.spread_messages as f64),
        history = thousands(plan.history as f64),
        changes = plan.changes,
        creations = plan.creations,
        crowd = thousands(plan.crowd as f64),
    )
}
