//! Work that takes a processor for long, kept away from the threads that everybody's requests run on.

use std::{panic, sync::Arc, thread};

use tokio::{sync::Semaphore, task::spawn_blocking};

/// Fewer bytes are worked through in less time than it takes to hand them over twice.
const BYTES_MIN: usize = 64 << 10;

/// Where large bodies are read and checked: on threads of their own, so many at a time that a processor stays free
/// for all others.
#[derive(Clone, Debug)]
pub struct Offload {
    turns: Arc<Semaphore>,
}

impl Offload {
    /// As many at a time as the machine has processors but one.
    pub fn new() -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self {
            turns: Arc::new(Semaphore::new((processors - 1).max(1))),
        }
    }

    /// Does work on so many bytes.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        if bytes < BYTES_MIN {
            return work();
        }
        // It is never closed.
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        holding(turn, work).await
    }
}

/// Does work on a thread of its own, and holds a turn meanwhile: that is over when the work is, whether or not somebody
/// still waits for it.
pub(crate) async fn holding<T: Send + 'static>(
    turn: impl Send + 'static,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let done = spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    match done.await {
        Ok(done) => done,
        // A panic in the work is one here; it is cancelled only when the runtime ends, and this with it.
        Err(error) => panic::resume_unwind(error.into_panic()),
    }
}

impl Default for Offload {
    fn default() -> Self {
        Self::new()
    }
}
