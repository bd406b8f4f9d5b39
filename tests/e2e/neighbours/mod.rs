//! Neighbours: one tenant sends what it likes, or loses what it has, while others are under a steady load, with and
//! without message ids. At the end there is an account: nothing of theirs lost, doubled, redelivered or dead-lettered,
//! and nobody waited for long.

mod answers;
mod backups;
mod consumers;
mod deliveries;
mod fleet;
mod memory;
mod queues;
mod quorum_queues;
mod refusals;
mod stopping;
mod tables;
mod tables_commit;
mod wiped;

use std::time::Duration;

/// How long a message of a neighbour may wait here: a second on a machine that has time, and tests run many at once.
const UNNOTICED: Duration = Duration::from_secs(5);
