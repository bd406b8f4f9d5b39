//! What to acknowledge: the delivery tags of one channel.
//!
//! Tags count up from 1 over all of a channel's consumers. One `multiple` acknowledgement at the end of the contiguous
//! settled prefix stands for all of it; acking `multiple` any further would ack what is not stored yet. An
//! acknowledgement always names a tag that is itself still unacknowledged: the broker closes the channel for any
//! other. What is settled behind a gap that stays open is acknowledged singly, which costs the broker a search: it
//! walks past everything older that is unacknowledged. (Measured: 80 ns for each, so that a few thousand single
//! acknowledgements behind thousands of open tags kept a channel from answering anything for more than 5 s.)

use std::collections::BTreeMap;

/// One acknowledgement to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    /// The delivery tag.
    pub(crate) tag: u64,
    /// Whether it stands for every unacknowledged tag below, too.
    pub(crate) multiple: bool,
}

/// The tags of one channel. Memory is bounded by the number of gaps, and so by the unsettled deliveries.
#[derive(Debug, Default)]
pub(crate) struct Watermark {
    /// Every tag up to here is gone from the broker's books.
    gone_to: u64,
    /// The newest tag that came.
    came_to: u64,
    /// Beyond it: stored, and to be acknowledged.
    settled: Ranges,
    /// Beyond it: acknowledged singly, or given back.
    gone: Ranges,
    /// Where the prefix ended when [`Watermark::still`] was last asked, and how often that was the answer.
    looked_at: u64,
    still: u32,
}

impl Watermark {
    /// A delivery with this tag came.
    pub(crate) fn came(&mut self, tag: u64) {
        self.came_to = self.came_to.max(tag);
    }

    /// How many that came are still in the broker's books.
    pub(crate) fn open(&self) -> usize {
        let gone = self.gone.count(self.gone_to + 1, self.came_to + 1);
        usize::try_from(self.came_to.saturating_sub(self.gone_to + gone)).unwrap_or(usize::MAX)
    }

    /// A tag is to be acknowledged.
    pub(crate) fn settle(&mut self, tag: u64) {
        self.settled.insert(tag);
    }

    /// A tag was given back by a negative acknowledgement.
    pub(crate) fn give_back(&mut self, tag: u64) {
        self.gone.insert(tag);
    }

    /// The one acknowledgement for the contiguous prefix, if it has grown.
    pub(crate) fn advance(&mut self) -> Option<Ack> {
        let mut ack = None;
        loop {
            let next = self.gone_to + 1;
            if let Some(end) = self.settled.take(next) {
                self.gone_to = end;
                ack = Some(end);
            } else if let Some(end) = self.gone.take(next) {
                self.gone_to = end;
            } else {
                break;
            }
        }
        ack.map(|tag| Ack { tag, multiple: true })
    }

    /// Asked now and then: how many times in a row something has waited behind a gap that had not moved.
    pub(crate) fn still(&mut self) -> u32 {
        let before = std::mem::replace(&mut self.looked_at, self.gone_to);
        self.still = match before == self.gone_to && !self.settled.is_empty() {
            true => self.still.saturating_add(1),
            false => 0,
        };
        self.still
    }

    /// Acknowledges singly what waits behind gaps, the oldest first, until the broker has searched past `search_max`
    /// unacknowledged tags for it.
    pub(crate) fn around(&mut self, search_max: u64) -> Vec<Ack> {
        let mut acks = Vec::new();
        let (mut at, mut open, mut search_left) = (self.gone_to, 0, search_max);
        while let Some((first, last)) = self.settled.after(at) {
            open += first - at - 1 - self.gone.count(at + 1, first);
            let affordable = search_left.checked_div(open).unwrap_or(u64::MAX);
            let count = affordable.min(last - first + 1);
            if count == 0 {
                break;
            }
            search_left -= open * count;
            at = first + count - 1;
            for tag in first..=at {
                self.settled.remove(tag);
                self.gone.insert(tag);
                acks.push(Ack { tag, multiple: false });
            }
        }
        acks
    }
}

/// A set of tags, as ranges: first to last.
#[derive(Debug, Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn insert(&mut self, tag: u64) {
        let end = self.0.remove(&(tag + 1)).unwrap_or(tag);
        match self.0.range_mut(..tag).next_back() {
            Some((_, last)) if *last + 1 == tag => *last = end,
            _ => {
                self.0.insert(tag, end);
            }
        }
    }

    /// Takes the range that starts at `first`, and answers its last.
    fn take(&mut self, first: u64) -> Option<u64> {
        self.0.remove(&first)
    }

    /// The first range that starts beyond a tag.
    fn after(&self, tag: u64) -> Option<(u64, u64)> {
        self.0
            .range(tag + 1..)
            .next()
            .map(|(&first, &last)| (first, last))
    }

    /// How many there are from `from` to before `end`.
    fn count(&self, from: u64, end: u64) -> u64 {
        self.0
            .range(..end)
            .rev()
            .take_while(|(_, last)| **last >= from)
            .map(|(&first, &last)| last.min(end - 1) - first.max(from) + 1)
            .sum()
    }

    /// Takes one tag out, and answers whether it was there.
    fn remove(&mut self, tag: u64) -> bool {
        let Some((&first, &last)) = self.0.range(..=tag).next_back() else {
            return false;
        };
        if tag > last {
            return false;
        }
        match first < tag {
            true => self.0.insert(first, tag - 1),
            false => self.0.remove(&first),
        };
        if tag < last {
            self.0.insert(tag + 1, last);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The broker's books: answers which tags an acknowledgement takes off, or panics as it would close the channel.
    fn broker(unacked: &mut BTreeSet<u64>, ack: Ack) -> Vec<u64> {
        assert!(unacked.contains(&ack.tag), "unknown delivery tag {}", ack.tag);
        let off: Vec<u64> = match ack.multiple {
            true => unacked.range(..=ack.tag).copied().collect(),
            false => vec![ack.tag],
        };
        for tag in &off {
            unacked.remove(tag);
        }
        off
    }

    #[test]
    fn a_prefix_is_acknowledged_once_it_is_whole() {
        let mut watermark = Watermark::default();
        watermark.settle(2);
        watermark.settle(3);
        assert_eq!(watermark.advance(), None);
        watermark.settle(1);
        assert_eq!(
            watermark.advance(),
            Some(Ack {
                tag: 3,
                multiple: true
            })
        );
        assert_eq!(watermark.advance(), None);
    }

    #[test]
    fn a_gap_that_stays_open_holds_nothing_back() {
        let mut watermark = Watermark::default();
        watermark.settle(2);
        watermark.settle(4);
        assert_eq!(watermark.still(), 1);
        let singly = |tag| Ack { tag, multiple: false };
        assert_eq!(watermark.around(100), [singly(2), singly(4)]);
        assert_eq!((watermark.still(), watermark.around(100)), (0, Vec::new()));
        watermark.settle(1);
        // 2 is gone already, and may not be named again.
        let up_to = |tag| Some(Ack { tag, multiple: true });
        assert_eq!(watermark.advance(), up_to(1));
        watermark.settle(3);
        assert_eq!(watermark.advance(), up_to(3));
    }

    #[test]
    fn a_gap_that_moves_is_not_still() {
        let mut watermark = Watermark::default();
        watermark.settle(1);
        watermark.settle(3);
        watermark.advance();
        assert_eq!([(); 3].map(|()| watermark.still()), [0, 1, 2]);
        watermark.settle(2);
        watermark.advance();
        watermark.settle(5);
        assert_eq!([(); 2].map(|()| watermark.still()), [0, 1]);
    }

    #[test]
    fn the_brokers_search_for_what_waits_is_bounded() {
        let mut watermark = Watermark::default();
        (1_001..=2_000).for_each(|tag| watermark.settle(tag));
        let tags = |acks: Vec<Ack>| acks.iter().map(|ack| ack.tag).collect::<Vec<_>>();
        // Each is behind a thousand open ones.
        assert_eq!(tags(watermark.around(3_500)), [1_001, 1_002, 1_003]);
        assert!(watermark.around(999).is_empty());
        assert_eq!(tags(watermark.around(2_000)), [1_004, 1_005]);

        // What was given back is nothing to walk past, right behind an acknowledged one neither.
        let mut watermark = Watermark::default();
        (4..=10).for_each(|tag| watermark.give_back(tag));
        watermark.settle(3);
        watermark.settle(11);
        assert_eq!(tags(watermark.around(4)), [3, 11]);
    }

    #[test]
    fn what_was_given_back_leaves_no_gap() {
        let mut watermark = Watermark::default();
        watermark.give_back(1);
        watermark.settle(2);
        watermark.give_back(3);
        assert_eq!(
            watermark.advance(),
            Some(Ack {
                tag: 2,
                multiple: true
            })
        );
        watermark.settle(4);
        assert_eq!(
            watermark.advance(),
            Some(Ack {
                tag: 4,
                multiple: true
            })
        );
    }

    proptest! {
        #[test]
        fn any_interleaving_acknowledges_each_settled_tag_once_and_no_other(
            order in Just((1_u64..=40).collect::<Vec<_>>()).prop_shuffle(),
            back in prop::collection::vec(prop::bool::weighted(0.2), 40),
            then in prop::collection::vec(0_u8..=255, 40),
        ) {
            let mut watermark = Watermark::default();
            let mut unacked: BTreeSet<u64> = order.iter().copied().collect();
            unacked.iter().for_each(|&tag| watermark.came(tag));
            let (mut settled, mut acked) = (BTreeSet::new(), BTreeSet::new());
            for ((tag, back), then) in order.into_iter().zip(back).zip(then) {
                if back {
                    unacked.remove(&tag);
                    watermark.give_back(tag);
                } else {
                    settled.insert(tag);
                    watermark.settle(tag);
                }
                let mut acks = Vec::new();
                if then & 1 == 1 { acks.extend(watermark.advance()); }
                let mut offs: Vec<u64> = acks.into_iter().flat_map(|ack| broker(&mut unacked, ack)).collect();
                if then & 2 == 2 {
                    let search_max = u64::from(then) / 4;
                    let mut searched = 0;
                    for ack in watermark.around(search_max) {
                        searched += unacked.range(..ack.tag).count() as u64;
                        offs.extend(broker(&mut unacked, ack));
                    }
                    prop_assert!(searched <= search_max);
                }
                for off in offs {
                    prop_assert!(settled.contains(&off), "{off} was not settled");
                    prop_assert!(acked.insert(off));
                }
                prop_assert_eq!(watermark.open(), unacked.len());
            }
            for off in watermark.advance().into_iter().flat_map(|ack| broker(&mut unacked, ack)) {
                prop_assert!(settled.contains(&off) && acked.insert(off));
            }
            prop_assert_eq!(acked, settled);
            prop_assert!(unacked.is_empty() && watermark.gone.is_empty());
        }
    }
}
