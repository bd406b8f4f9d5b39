//! How much is measured.

use std::time::Duration;

use clap::ValueEnum;

/// A part of the bench that can be run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// One tenant, the raw drain and the peers
    One,
    /// One busy tenant among idle ones
    Beside,
    /// The same number of messages over many tenants
    Spread,
    /// From published to readable
    Latency,
    /// Quiet tenants beside a noisy one
    Noise,
    /// A slow database and 1, 2 and 4 workers
    Workers,
    /// Pages of a long history
    Pages,
    /// Finding, exporting and following what is stored
    Reading,
    /// Ingest while retention removes
    Retention,
    /// Ingest while spans are sent
    Traces,
    /// From SetConcurrency to applied
    Propagation,
    /// A daemon of three dies, or hangs
    Failover,
    /// What moves when a daemon joins and leaves
    Moves,
    /// What a stream that comes back is sent
    Reconnect,
    /// What thousands of tenants cost: to create, and to start a daemon with
    Growth,
    /// What a change costs beside ten thousand tenants, and what they cost while idle
    Crowd,
}

impl Scenario {
    /// In the order of the table.
    pub(crate) const ALL: [Self; 16] = [
        Self::One,
        Self::Beside,
        Self::Spread,
        Self::Latency,
        Self::Noise,
        Self::Workers,
        Self::Pages,
        Self::Reading,
        Self::Retention,
        Self::Traces,
        Self::Propagation,
        Self::Failover,
        Self::Moves,
        Self::Reconnect,
        Self::Growth,
        Self::Crowd,
    ];

    /// What it is about, and how it is asked for.
    pub(crate) fn heading(self) -> String {
        let value = self.to_possible_value();
        let (name, help) = value
            .as_ref()
            .map_or(("", None), |value| (value.get_name(), value.get_help()));
        help.map_or_else(|| name.to_owned(), |help| format!("{help} (`{name}`)"))
    }
}

/// The numbers of a run.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Whether it is the small one.
    pub(crate) quick: bool,
    /// How often each figure of the ingest is taken.
    pub(crate) rounds: usize,
    /// A full queue: some seconds' worth, so that its beginning weighs little.
    pub(crate) messages: usize,
    /// The same over thousands of queues: some dozens for each, so that what a lane costs to start weighs little there, too.
    pub(crate) spread_messages: usize,
    /// What the plain design is given, being slow: its rate does not depend on it.
    pub(crate) plain_messages: usize,
    /// Among how many idle tenants there is a busy one.
    pub(crate) idle: [usize; 3],
    /// Over how many tenants a full queue's messages are spread. The first is where the peers are met.
    pub(crate) tenants: [usize; 3],
    /// How long messages are sent at a steady rate.
    pub(crate) steady: Duration,
    /// What the noisy tenant has in its queue: more than is stored meanwhile.
    pub(crate) noise_messages: usize,
    /// What is drained through the slow way to the database.
    pub(crate) slow_messages: usize,
    /// The length of the history that pages are read of, and that retention removes.
    pub(crate) history: usize,
    /// The length of the history that messages are found in.
    pub(crate) long_history: usize,
    /// How many messages are exported.
    pub(crate) exported: usize,
    /// How many follow.
    pub(crate) followers: usize,
    /// How often a page is read.
    pub(crate) page_reads: usize,
    /// With how many tenants a change is timed.
    pub(crate) propagation_tenants: [usize; 3],
    /// How many changes.
    pub(crate) changes: usize,
    /// How often a daemon is killed, and how often stopped.
    pub(crate) kills: usize,
    /// How many tenants the three daemons have.
    pub(crate) fleet_tenants: usize,
    /// How many lanes the stream has that comes back.
    pub(crate) reconnect_lanes: usize,
    /// How many tenants there are when creating one is timed, and a daemon's start.
    pub(crate) growth: [usize; 3],
    /// How many creations are timed there.
    pub(crate) creations: usize,
    /// Beside how many idle tenants changes are timed, too.
    pub(crate) crowd: usize,
    /// How long it is seen what these cost.
    pub(crate) idling: Duration,
}

impl Plan {
    /// What counts: an hour on two cores.
    pub(crate) fn full() -> Self {
        Self {
            quick: false,
            rounds: 5,
            messages: 120_000,
            spread_messages: 200_000,
            plain_messages: 15_000,
            idle: [100, 1_000, 10_000],
            tenants: [100, 1_000, 5_000],
            steady: Duration::from_secs(8),
            noise_messages: 400_000,
            slow_messages: 40_000,
            history: 1_000_000,
            long_history: 10_000_000,
            exported: 500_000,
            followers: 1_000,
            page_reads: 300,
            propagation_tenants: [1, 100, 1_000],
            changes: 300,
            kills: 10,
            fleet_tenants: 60,
            reconnect_lanes: 500,
            growth: [0, 1_000, 4_000],
            creations: 50,
            crowd: 10_000,
            idling: Duration::from_secs(30),
        }
    }

    /// What shows quickly that everything works.
    pub(crate) fn quick() -> Self {
        Self {
            quick: true,
            rounds: 1,
            messages: 10_000,
            spread_messages: 10_000,
            plain_messages: 1_000,
            idle: [10, 20, 250],
            tenants: [10, 20, 40],
            steady: Duration::from_secs(1),
            noise_messages: 20_000,
            slow_messages: 2_000,
            history: 10_000,
            long_history: 20_000,
            exported: 10_000,
            followers: 60,
            page_reads: 20,
            propagation_tenants: [1, 5, 10],
            changes: 10,
            kills: 1,
            fleet_tenants: 30,
            reconnect_lanes: 20,
            growth: [0, 10, 20],
            creations: 3,
            crowd: 120,
            idling: Duration::from_secs(2),
        }
    }
}
