//! How much is measured.

use clap::ValueEnum;

/// A part of the bench that can be run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
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
}

impl Scenario {
    /// In the order of the table.
    pub(crate) const ALL: [Self; 5] = [
        Self::Propagation,
        Self::Failover,
        Self::Moves,
        Self::Reconnect,
        Self::Growth,
    ];
}

/// The numbers of a run.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Whether it is the small one.
    pub(crate) quick: bool,
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
}

impl Plan {
    /// What counts.
    pub(crate) fn full() -> Self {
        Self {
            quick: false,
            propagation_tenants: [1, 100, 1_000],
            changes: 300,
            kills: 20,
            fleet_tenants: 60,
            reconnect_lanes: 1_000,
            growth: [0, 1_000, 5_000],
            creations: 50,
        }
    }

    /// What shows quickly that everything works.
    pub(crate) fn quick() -> Self {
        Self {
            quick: true,
            propagation_tenants: [1, 10, 30],
            changes: 30,
            kills: 2,
            fleet_tenants: 60,
            reconnect_lanes: 30,
            growth: [0, 30, 60],
            creations: 5,
        }
    }
}
