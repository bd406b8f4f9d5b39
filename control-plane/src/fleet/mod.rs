//! The fleet: which daemon runs which lane, and what really runs.
//!
//! PostgreSQL is the only state. [`assigner`] runs rounds: it reads daemons, tenants and assignments, lets the pure
//! [`solver`] decide, and writes the differences under a new revision. [`watch`] streams a daemon's rows to it and
//! writes back what it reports. [`changes`] wakes whoever waits, on every control plane, when rows have changed.

pub(crate) mod assigner;
pub(crate) mod changes;
mod daemons;
mod handle;
mod members;
mod membership;
mod solver;
pub(crate) mod watch;

pub(crate) use self::{
    changes::Changes,
    daemons::Daemon,
    handle::{Consumer, Fleet},
};

use std::time::Duration;

/// How long a daemon counts as alive after it was last heard of. It is heard of every second.
pub(crate) const LEASE: Duration = Duration::from_secs(5);
/// How long a daemon whose stream broke has to come back.
pub(crate) const GRACE: Duration = Duration::from_secs(1);
