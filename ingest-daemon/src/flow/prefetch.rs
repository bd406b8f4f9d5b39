//! How many messages a lane's consumer may hold: the only back-pressure there is. Pure.
//!
//! A lane holds a few commits' worth of what it gets into a commit: then all lanes of a channel commit what was
//! delivered at about the same time, the acknowledgements have no long gaps, and a narrow lane's backlog does not lie
//! in front of a wide one's. (The broker searches what is unacknowledged from the oldest on: an acknowledgement behind
//! a gap of 4,000 costs it a third of a millisecond. Tried.) And all lanes of a channel hold little between them.

use super::{COMMITS, FACTOR, FEW, HELD, LIGHT, QUIET, UNSEEN};

/// What a message is taken to cost while none was seen.
const BYTES_UNKNOWN: usize = 2 << 10;
/// What a message costs beside its body.
const BYTES_OVERHEAD: usize = 1 << 10;
/// Below this the mean says little about what comes.
const SEEN_MIN: u64 = 16;

/// What a shard's lanes share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Messages.
    pub(crate) messages: usize,
    /// Bytes.
    pub(crate) bytes: usize,
    /// The most messages of one lane.
    pub(crate) lane_messages: usize,
}

/// What a lane's messages have been like.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    seen: u64,
    mean_bytes: f64,
    /// What it gets into a commit when it has enough.
    commit_rows: f64,
}

impl Traffic {
    /// A message of so many bytes came. The mean follows the last hundred or so.
    pub(crate) fn came(&mut self, bytes: usize) {
        self.seen = self.seen.saturating_add(1);
        let weight = (1.0 / self.seen as f64).max(0.01);
        self.mean_bytes += (bytes as f64 - self.mean_bytes) * weight;
    }

    /// A message came of which there was no room for the body. What came before says nothing about what comes now.
    pub(crate) fn too_large(&mut self, bytes: u64) {
        (self.seen, self.mean_bytes) = (1, bytes as f64);
    }

    /// Whether enough came to know what a message costs.
    pub(crate) fn is_known(self) -> bool {
        self.seen >= SEEN_MIN
    }

    /// What a message costs.
    fn bytes_each(self) -> usize {
        match self.seen {
            0 => BYTES_UNKNOWN,
            _ => self.mean_bytes as usize + BYTES_OVERHEAD,
        }
    }

    /// So many messages of at most `most` went into a commit, and so many were left, of a consumer with this prefetch.
    pub(crate) fn took(&mut self, rows: usize, most: usize, left: usize, prefetch: u16) {
        let rows = match left {
            // It had no more. Either its prefetch holds it back, or it is quiet, which says nothing.
            0 if rows * 2 < usize::from(prefetch) => return,
            0 => most,
            _ => rows,
        };
        let rows = rows as f64;
        // Up at once, down slowly: a new consumer costs its lane two round trips.
        let weight = if rows > self.commit_rows { 1.0 } else { 0.25 };
        self.commit_rows += (rows - self.commit_rows) * weight;
    }
}

impl Budget {
    /// How many messages a channel's lanes may hold between them before another is admitted.
    pub(crate) fn room(&self, traffic: Traffic) -> usize {
        LIGHT
            .min(self.messages)
            .min(self.bytes / traffic.bytes_each())
            .max(1)
    }

    /// A lane's prefetch among so many lanes: what it can use, within its share of both budgets, at least 1.
    pub(crate) fn prefetch(&self, lanes: usize, traffic: Traffic, held: bool) -> u16 {
        let lanes = lanes.max(1);
        let useful = match (held, traffic.is_known()) {
            (true, _) => HELD,
            (false, false) => UNSEEN,
            (false, true) => ((traffic.commit_rows * COMMITS) as usize).max(QUIET),
        };
        let by_messages = (LIGHT / lanes).max(FEW).min(self.messages / lanes);
        let by_bytes = self.bytes / lanes / traffic.bytes_each();
        let prefetch = useful
            .min(self.lane_messages)
            .min(by_messages)
            .min(by_bytes)
            .max(1);
        u16::try_from(prefetch).unwrap_or(u16::MAX)
    }
}

/// Whether a consumer with the prefetch `has` is worth replacing by one with `wants`.
pub(crate) fn worth_changing(has: u16, wants: u16) -> bool {
    let (has, wants) = (usize::from(has), usize::from(wants));
    wants >= has * FACTOR || has >= wants * FACTOR
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BUDGET: Budget = Budget {
        messages: 64_000,
        bytes: 64 << 20,
        lane_messages: 4_000,
    };

    /// A lane of such messages, with so many in a commit.
    fn traffic(bytes: usize, commit_rows: usize) -> Traffic {
        let mut traffic = Traffic::default();
        for _ in 0..100 {
            traffic.came(bytes);
            traffic.took(commit_rows, commit_rows, 1, 1);
        }
        traffic
    }

    #[test]
    fn a_lane_starts_small_and_grows_to_a_few_commits() {
        assert_eq!(BUDGET.prefetch(1, Traffic::default(), false), 2);
        let mut quiet = Traffic::default();
        (0..16).for_each(|_| quiet.came(256));
        assert_eq!(BUDGET.prefetch(1, quiet, false), 64);
        assert_eq!(BUDGET.prefetch(1, traffic(256, 250), false), 1_250);
        assert_eq!(BUDGET.prefetch(1, traffic(256, 9_000), false), 2_000);
        assert_eq!(BUDGET.prefetch(50, traffic(256, 1_000), false), 40);
        assert_eq!(BUDGET.prefetch(500, traffic(256, 1_000), false), 20);
        assert_eq!(BUDGET.prefetch(3_200, traffic(256, 1_000), false), 16);
        assert_eq!(BUDGET.prefetch(1_000_000, traffic(256, 250), false), 1);
    }

    #[test]
    fn a_prefetch_that_is_used_up_grows_and_a_quiet_lane_says_nothing() {
        let mut traffic = traffic(256, 1);
        traffic.took(64, 500, 0, 64);
        assert_eq!(BUDGET.prefetch(1, traffic, false), 2_000);
        for _ in 0..1_000 {
            traffic.took(1, 500, 0, 512);
        }
        assert_eq!(BUDGET.prefetch(1, traffic, false), 2_000);
    }

    #[test]
    fn a_held_tenants_messages_stay_in_its_queue() {
        assert_eq!(BUDGET.prefetch(1, traffic(256, 1_000), true), 64);
    }

    #[test]
    fn large_messages_have_fewer_places() {
        assert_eq!(BUDGET.prefetch(1, traffic(1 << 20, 250), false), 63);
        assert_eq!(BUDGET.prefetch(100, traffic(1 << 20, 250), false), 1);
    }

    #[test]
    fn there_is_room_for_as_many_as_fit() {
        assert_eq!(BUDGET.room(Traffic::default()), 2_000);
        assert_eq!(BUDGET.room(traffic(256, 1)), 2_000);
        assert_eq!(BUDGET.room(traffic(1 << 20, 1)), 63);
        assert_eq!(BUDGET.room(traffic(1 << 30, 1)), 1);
    }

    #[test]
    fn a_message_that_there_was_no_room_for_makes_its_lane_ask_for_little() {
        let mut traffic = traffic(256, 1_000);
        traffic.too_large(60 << 20);
        assert_eq!(BUDGET.prefetch(1, traffic, false), 1);
        (0..16).for_each(|_| traffic.came(60 << 20));
        assert_eq!(BUDGET.prefetch(1, traffic, false), 1);
        (0..1_000).for_each(|_| traffic.came(256));
        assert!(BUDGET.prefetch(1, traffic, false) > 1_000);
    }

    #[test]
    fn only_a_large_change_is_worth_a_new_consumer() {
        assert!(worth_changing(64, 16_000) && worth_changing(64, 32));
        assert!(!worth_changing(64, 100) && !worth_changing(64, 33) && !worth_changing(1, 1));
    }

    proptest! {
        #[test]
        fn all_lanes_together_stay_within_the_budget(
            lanes in 1_usize..10_000, bytes in 0_usize..2_000_000, rows in 1_usize..5_000
        ) {
            let each = usize::from(BUDGET.prefetch(lanes, traffic(bytes, rows), false));
            prop_assert!(each == 1 || each * lanes <= BUDGET.messages);
            prop_assert!(each == 1 || each * lanes * bytes <= BUDGET.bytes);
        }
    }
}
