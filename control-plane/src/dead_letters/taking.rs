//! Taking those that are meant out of a dead-letter queue, from the oldest on.

use common::id::TenantId;
use uuid::Uuid;

use super::{Selection, turn::Turn};
use crate::{
    broker::{Letter, Reader, Tag},
    error::Error,
};

/// How many are taken together, enough to hide the broker's round trip.
const BATCH_LETTERS: usize = 256;
/// What of their bodies is held for that; one is taken whatever its size.
const BATCH_BYTES: usize = 4 << 20;
/// How many are passed over by whoever looks for ids, which are no deeper than lists go.
const PASSED_MAX: u32 = 10_000;

/// A call that takes letters.
pub(super) struct Taking {
    tenant: TenantId,
    selection: Selection,
    reader: Reader,
    turn: Turn,
    /// How many were not meant, and are held until the end.
    passed: u32,
    /// How many have left the queue.
    taken: u32,
}

impl Taking {
    pub(super) fn new(tenant: TenantId, selection: Selection, reader: Reader, turn: Turn) -> Self {
        Self {
            tenant,
            selection,
            reader,
            turn,
            passed: 0,
            taken: 0,
        }
    }

    /// The next of those that are meant, `most` at most, with their ids. The others stay in the reader's hands, which
    /// gives them back to their places.
    pub(super) async fn next(&mut self, most: usize) -> Result<Vec<(Option<Uuid>, Letter)>, Error> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < most.min(BATCH_LETTERS) && bytes < BATCH_BYTES && !self.is_over() {
            let Some(letter) = self.reader.next().await? else {
                break;
            };
            let id = letter.id(self.tenant);
            if self.selection.takes(id, letter.reason()) {
                bytes += letter.body.len();
                batch.push((id, letter));
            } else {
                self.passed += 1;
            }
        }
        match self.reader.broke_off() {
            Some(why) if batch.is_empty() && self.taken == 0 => Err(why),
            _ => Ok(batch),
        }
    }

    /// Takes these out of the queue for good.
    pub(super) async fn done(&mut self, tags: &[Tag]) -> Result<(), Error> {
        self.reader.done(tags).await?;
        let count = u32::try_from(tags.len()).unwrap_or(u32::MAX);
        self.taken = self.taken.saturating_add(count);
        Ok(())
    }

    /// Whether there may be more of those that are meant.
    pub(super) fn has_more(&self) -> bool {
        self.reader.left() > 0 && !self.selection.is_found()
    }

    /// Whether there is nothing more to do, or no more time for it.
    fn is_over(&self) -> bool {
        !self.has_more() || self.passed >= self.passed_max() || self.turn.is_over()
    }

    fn passed_max(&self) -> u32 {
        match self.selection.is_of_ids() {
            true => PASSED_MAX,
            false => self.reader.passed_max(),
        }
    }

    /// How many have left the queue.
    pub(super) fn taken(&self) -> u32 {
        self.taken
    }

    /// How many of those that are meant may be left.
    pub(super) fn remaining(&self) -> u32 {
        self.selection.remaining(self.reader.left())
    }

    /// What is to be given back, and the turn that ends then.
    pub(super) fn end(self) -> (Turn, Reader) {
        (self.turn, self.reader)
    }
}
