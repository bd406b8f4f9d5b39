//! The fleet: which daemon runs which lane, and what really runs.
//!
//! PostgreSQL is the only state. [`assigner`] runs rounds: it reads daemons, tenants and assignments, lets the pure
//! [`solver`] decide, and writes the differences under a new revision. [`watch`] streams a daemon's rows to it and
//! writes back what it reports. [`expiry`] declares out who is not heard of, and [`history`] notices a database that
//! was restored from a backup. [`changes`] wakes whoever waits, on every control plane, when rows have changed.
//!
//! Rows are locked in one order, so that nobody waits in a circle: the fleet's, then lanes by tenant and daemon. A
//! daemon's own is locked in a way that whoever only refers to it passes by.

pub(crate) mod assigner;
pub(crate) mod changes;
mod connections;
mod daemons;
pub(crate) mod expiry;
mod handle;
mod history;
mod lanes;
mod members;
mod membership;
mod solver;
pub(crate) mod watch;

pub(crate) use self::{
    changes::Changes,
    connections::Connections,
    daemons::Daemon,
    handle::{Consumer, Fleet},
    lanes::tell_anew,
};

use std::time::Duration;

/// How long a daemon counts as alive after it was last heard of. It is heard of every second.
pub(crate) const LEASE: Duration = Duration::from_secs(5);
/// How long a daemon whose stream broke has to come back.
pub(crate) const GRACE: Duration = Duration::from_secs(1);
