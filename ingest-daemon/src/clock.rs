//! What pure code takes as an argument instead of asking for it.

use std::time::{Instant, SystemTime};

/// A moment, and the luck that comes with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// For pauses.
    pub(crate) instant: Instant,
    /// For what people read.
    pub(crate) time: SystemTime,
    /// 0..1: spreads what would otherwise happen together.
    pub(crate) random: f64,
}

impl Now {
    /// This moment.
    pub(crate) fn read() -> Self {
        Self {
            instant: Instant::now(),
            time: SystemTime::now(),
            random: rand::random(),
        }
    }
}
