//! When a shard acknowledges what. Pure.

use super::Action;
use crate::settle::Watermark;

/// For how many looks a gap may stay where it is while its lane merely waits for its turn: it goes with the prefix
/// then, for a small part of the cost. With a thousand lanes a turn takes some tenths of a second.
const PATIENCE: u32 = 10;
/// How far the broker may search at one look, in unacknowledged tags: 20 ms of its channel's time.
const SEARCH_MAX: u64 = 250_000;
/// And after each commit while there are lanes that their limit holds up: those hold little.
const SEARCH_COMMIT: u64 = 50_000;

/// What is to be acknowledged on one channel.
#[derive(Debug, Default)]
pub(super) struct Acks {
    watermark: Watermark,
}

impl Acks {
    /// How many deliveries are in the broker's books.
    pub(super) fn open(&self) -> usize {
        self.watermark.open()
    }

    /// A delivery came.
    pub(super) fn came(&mut self, tag: u64) {
        self.watermark.came(tag);
    }

    /// A delivery is to be acknowledged.
    pub(super) fn settle(&mut self, tag: u64) {
        self.watermark.settle(tag);
    }

    /// A delivery goes back to its queue.
    pub(super) fn give_back(&mut self, tag: u64) -> Action {
        self.watermark.give_back(tag);
        Action::GiveBack(tag)
    }

    /// Acknowledges the contiguous prefix, if it has grown.
    pub(super) fn advance(&mut self) -> Option<Action> {
        self.watermark.advance().map(Action::Ack)
    }

    /// Acknowledges around what lanes hold until their limit lets it be stored: a tenth of a second's wait each time would
    /// be felt by their neighbours.
    pub(super) fn around_slowed(&mut self) -> impl Iterator<Item = Action> {
        self.watermark.around(SEARCH_COMMIT).into_iter().map(Action::Ack)
    }

    /// Acknowledges around a gap that stays open, so that one lane that is stuck (`kept`) holds nobody else.
    pub(super) fn around(&mut self, kept: bool) -> impl Iterator<Item = Action> {
        let patience = if kept { 1 } else { PATIENCE };
        let acks = match self.watermark.still() >= patience {
            true => self.watermark.around(SEARCH_MAX),
            false => Vec::new(),
        };
        acks.into_iter().map(Action::Ack)
    }
}
