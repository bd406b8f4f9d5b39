//! What somebody would write without Jalur. None has positions in commit order, fairness, dead letters or retries; all
//! acknowledge after the commit and store a message id once, as Jalur does.
//!
//! Their table is partitioned and indexed as Jalur's is; its position is a sequence's, which readers cannot resume
//! from, but which costs the same index.

mod batched;
mod node;
mod plain;
mod room;

use tests::bench::{Report, Series, Target, rate};

pub(crate) use self::{node::Node, plain::plain};
use crate::ground::Ground;

/// Rows of one INSERT at most.
const BATCH: usize = 500;

/// The batched ones: whoever is best in a round is whom Jalur is set beside.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    /// In Rust, a task for each queue.
    tasks: Series,
    /// In Rust, a loop for all of several queues.
    looped: Series,
    /// In Node.
    node: Series,
    best: Series,
}

impl Peers {
    /// A round: each drains as much from so many queues.
    pub(crate) async fn take(
        &mut self,
        ground: &Ground,
        node: Option<&Node>,
        queues: usize,
        count: usize,
        bytes: usize,
    ) -> anyhow::Result<()> {
        let mut best = rate(count, batched::tasks(ground, queues, count, bytes).await?);
        self.tasks.push(best);
        // Over one queue it would be the same.
        if queues > 1 {
            let looped = rate(count, batched::looped(ground, queues, count, bytes).await?);
            self.looped.push(looped);
            best = best.max(looped);
        }
        if let Some(node) = node {
            let node = rate(count, node.batched(ground, queues, count, bytes).await?);
            self.node.push(node);
            best = best.max(node);
        }
        self.best.push(best);
        Ok(())
    }

    /// What Jalur's rates are to theirs; to the best of each round at least 1.10.
    pub(crate) fn tell(&self, report: &mut Report, what: &str, jalur: &Series) {
        let each = [
            ("batched in Rust, a task for each queue", &self.tasks),
            ("batched in Rust, a loop for all queues", &self.looped),
            ("batched in Node", &self.node),
        ];
        for (name, series) in each.into_iter().filter(|(_, series)| !series.is_empty()) {
            tell_beside(report, what, name, jalur, series, None);
        }
        let target = Some(Target::AtLeast(1.1));
        tell_beside(report, what, "the best batched one", jalur, &self.best, target);
    }
}

/// What Jalur's rates are to the broker's alone.
pub(crate) fn tell_drained(report: &mut Report, what: &str, jalur: &Series, broker: &Series) {
    tell_beside(report, what, "the broker drained raw", jalur, broker, None);
}

/// What Jalur's rates are to the plain design's.
pub(crate) fn tell_plain(report: &mut Report, what: &str, jalur: &Series, plain: &Series) {
    let target = Some(Target::AtLeast(5.0));
    tell_beside(report, what, "one INSERT and one ack each", jalur, plain, target);
}

fn tell_beside(
    report: &mut Report,
    what: &str,
    name: &str,
    jalur: &Series,
    other: &Series,
    target: Option<Target>,
) {
    report.ratio(
        what,
        jalur.rate(),
        format!("{name} {}", other.rate()),
        jalur.over(other).median(),
        target,
    );
}
