//! How many connections suspects have to PostgreSQL, all of a daemon's together.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Semaphore, SemaphorePermit};

/// A try that may take longer than this is a long one, such as the quick suspects never have.
const LONG: Duration = Duration::from_secs(2);

/// The suspects' way in. A committer of theirs passes before it connects and leaves once its connection is closed, so
/// that many suspects never hold many connections.
#[derive(Debug)]
pub(crate) struct Gate {
    connections: Semaphore,
    /// Those who are merely slow take turns: two of them would keep everybody else out for half a minute.
    long: Semaphore,
}

/// Leave to connect, until it is dropped.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    _connection: Option<SemaphorePermit<'a>>,
    _long: Option<SemaphorePermit<'a>>,
}

impl Gate {
    /// A gate for so many connections.
    pub(crate) fn new(connections: usize) -> Arc<Self> {
        Arc::new(Self {
            connections: Semaphore::new(connections),
            long: Semaphore::new(connections.saturating_sub(1).max(1)),
        })
    }

    /// Waits for leave to connect, for a try that takes `patience` at most. Whoever comes first goes first.
    pub(super) async fn pass(&self, patience: Duration) -> Pass<'_> {
        let long = match patience > LONG {
            true => self.long.acquire().await.ok(),
            false => None,
        };
        // Neither semaphore is ever closed, which is the only way to fail.
        Pass {
            _connection: self.connections.acquire().await.ok(),
            _long: long,
        }
    }
}
