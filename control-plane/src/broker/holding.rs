//! Which letters a channel holds, and the pieces in which they go back. Pure.

use std::collections::BTreeSet;

/// The delivery tags of what a channel holds.
#[derive(Debug, Default)]
pub(super) struct Holding {
    /// Those that have been read and are not done with.
    tags: BTreeSet<u64>,
    /// The last one of each consumer that took any. A set: whatever is noted, they rise and none is there twice.
    ends: BTreeSet<u64>,
}

/// What one consumer took, as far as it is still held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) last: u64,
    pub(super) count: u32,
}

impl Holding {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.tags.len()
    }

    /// A consumer took these, or none.
    pub(super) fn took(&mut self, tags: impl IntoIterator<Item = u64>) {
        let last = tags.into_iter().inspect(|&tag| _ = self.tags.insert(tag)).max();
        self.ends.extend(last);
    }

    /// These are done with.
    pub(super) fn done(&mut self, tags: &[u64]) {
        for tag in tags {
            self.tags.remove(tag);
        }
    }

    /// Whether nothing else lies before the last of these.
    pub(super) fn is_first(&self, tags: &[u64]) -> bool {
        tags.last()
            .is_some_and(|last| self.tags.range(..=last).count() == tags.len())
    }

    /// What is held, in the order in which it came.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Piece> {
        let mut after = 0;
        self.ends.iter().filter_map(move |&end| {
            let piece = self.tags.range(after..=end);
            after = end + 1;
            let last = piece.clone().next_back().copied()?;
            let count = u32::try_from(piece.count()).unwrap_or(u32::MAX);
            Some(Piece { last, count })
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_consumer_that_got_nothing_leaves_no_piece() {
        let mut holding = Holding::default();
        holding.took([]);
        holding.took([1]);
        holding.took([]);
        holding.took([2, 3]);
        holding.done(&[3]);
        holding.took([]);
        let pieces: Vec<_> = holding.pieces().collect();
        assert_eq!(pieces, [1, 2].map(|last| Piece { last, count: 1 }));
    }

    proptest! {
        #[test]
        fn all_that_is_held_goes_back_once_and_in_its_order(
            took in prop::collection::vec((0_u64..5, any::<u8>()), 0..20),
        ) {
            let (mut holding, mut next) = (Holding::default(), 1);
            let mut held = BTreeSet::new();
            for (count, done) in took {
                holding.took(next..next + count);
                held.extend(next..next + count);
                next += count;
                let first: Vec<_> = held.iter().take(1).copied().collect();
                prop_assert_eq!(holding.is_first(&first), !first.is_empty());
                let done: Vec<_> = held.iter().filter(|&&tag| (tag + u64::from(done)) % 3 == 0).copied().collect();
                holding.done(&done);
                held.retain(|tag| !done.contains(tag));
            }
            prop_assert_eq!(holding.len(), held.len());
            // As the broker does it: one word for everything up to a tag.
            for piece in holding.pieces() {
                let left = held.split_off(&(piece.last + 1));
                prop_assert_eq!(held.len(), piece.count as usize);
                held = left;
            }
            prop_assert!(held.is_empty());
        }
    }
}
