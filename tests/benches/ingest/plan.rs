//! How much is measured.

use std::time::Duration;

use clap::ValueEnum;

/// A part of the bench that can be run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// One tenant, the baselines and the peers
    One,
    /// The same number of messages over many tenants
    Spread,
    /// From published to readable
    Latency,
    /// Quiet tenants beside a noisy one
    Noise,
    /// Pages of a long history
    Pages,
    /// A slow database and 1, 2 and 4 workers
    Workers,
}

impl Scenario {
    /// In the order of the table.
    pub(crate) const ALL: [Self; 6] = [
        Self::One,
        Self::Spread,
        Self::Latency,
        Self::Noise,
        Self::Pages,
        Self::Workers,
    ];
}

/// The numbers of a run.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Whether it is the small one.
    pub(crate) quick: bool,
    /// How often each figure is taken.
    pub(crate) rounds: usize,
    /// A full queue.
    pub(crate) messages: usize,
    /// What the plain design is given, being slow: its rate does not depend on it.
    pub(crate) plain_messages: usize,
    /// Over how many tenants a full queue's messages are spread. The first is where the batched peer is met.
    pub(crate) tenants: [usize; 3],
    /// How long messages are sent at a steady rate.
    pub(crate) steady: Duration,
    /// What the noisy tenant has in its queue.
    pub(crate) noise_messages: usize,
    /// The length of the history that pages are read of.
    pub(crate) history: usize,
    /// How often a page is read.
    pub(crate) page_reads: usize,
    /// What is drained through the slow way to the database.
    pub(crate) slow_messages: usize,
}

impl Plan {
    /// What counts.
    pub(crate) fn full() -> Self {
        Self {
            quick: false,
            rounds: 3,
            messages: 200_000,
            plain_messages: 30_000,
            tenants: [100, 1_000, 5_000],
            steady: Duration::from_secs(10),
            noise_messages: 500_000,
            history: 1_000_000,
            page_reads: 300,
            slow_messages: 60_000,
        }
    }

    /// What shows within a minute that everything works.
    pub(crate) fn quick() -> Self {
        Self {
            quick: true,
            rounds: 1,
            messages: 10_000,
            plain_messages: 2_000,
            tenants: [20, 40, 80],
            steady: Duration::from_secs(2),
            noise_messages: 40_000,
            history: 20_000,
            page_reads: 50,
            slow_messages: 5_000,
        }
    }
}
