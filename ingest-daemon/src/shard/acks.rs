//! When a shard acknowledges what. Pure.

use super::lanes::{Action, Lanes};
use crate::lane::Lane;

/// For how many looks a gap may stay where it is while its lane merely waits for its turn: it goes with the prefix
/// then, for a small part of the cost. With a thousand lanes a turn takes some tenths of a second.
const PATIENCE: u32 = 10;
/// How far the broker may search at one look, in unacknowledged tags: 20 ms of its channel's time.
const SEARCH_MAX: u64 = 250_000;

impl Lanes {
    /// Acknowledges the contiguous prefix, if it has grown.
    pub(super) fn advance(&mut self) {
        if let Some(ack) = self.watermark.advance() {
            self.act(Action::Ack(ack));
        }
    }

    /// Acknowledges around a gap that stays open, so that one lane that is held holds nobody else.
    pub(super) fn ack_around(&mut self) {
        let patience = match self.lanes.values().any(Lane::is_held) {
            true => 1,
            false => PATIENCE,
        };
        if self.watermark.still() >= patience {
            for ack in self.watermark.around(SEARCH_MAX) {
                self.act(Action::Ack(ack));
            }
        }
    }
}
