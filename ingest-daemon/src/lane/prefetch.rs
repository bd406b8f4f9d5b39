//! How many messages a lane's consumer may hold: the only back-pressure there is. Pure.

/// The prefetch of a lane whose messages are not known yet, at most.
const START_MAX: usize = 64;
/// What a message is taken to have while none was seen.
const BYTES_UNKNOWN: usize = 4 << 10;
/// What a message costs beside its body.
const BYTES_OVERHEAD: usize = 1 << 10;
/// Below this the mean says little about what comes.
const SEEN_MIN: u64 = 16;
/// A consumer whose prefetch is off by less than this factor is left alone: changing it takes a new consumer.
const FACTOR: usize = 2;

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
}

impl Traffic {
    /// A message of so many bytes came. The mean follows the last hundred or so.
    pub(crate) fn came(&mut self, bytes: usize) {
        self.seen = self.seen.saturating_add(1);
        let weight = (1.0 / self.seen as f64).max(0.01);
        self.mean_bytes += (bytes as f64 - self.mean_bytes) * weight;
    }
}

impl Budget {
    /// A lane's prefetch among so many lanes: its share of both budgets, within its own bound, at least 1.
    pub(crate) fn prefetch(&self, lanes: usize, traffic: Traffic) -> u16 {
        let lanes = lanes.max(1);
        let (bytes_each, most) = match traffic.seen {
            0..SEEN_MIN => (BYTES_UNKNOWN, START_MAX),
            _ => (traffic.mean_bytes as usize + BYTES_OVERHEAD, usize::MAX),
        };
        let by_messages = self.messages / lanes;
        let by_bytes = self.bytes / lanes / bytes_each;
        let prefetch = by_messages.min(by_bytes).min(most).min(self.lane_messages).max(1);
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
        messages: 16_000,
        bytes: 64 << 20,
        lane_messages: 4_000,
    };

    fn traffic(bytes: usize) -> Traffic {
        let mut traffic = Traffic::default();
        for _ in 0..100 {
            traffic.came(bytes);
        }
        traffic
    }

    #[test]
    fn a_lane_starts_small_and_then_has_its_share() {
        assert_eq!(BUDGET.prefetch(1, Traffic::default()), 64);
        assert_eq!(BUDGET.prefetch(1, traffic(256)), 4_000);
        assert_eq!(BUDGET.prefetch(100, traffic(256)), 160);
        assert_eq!(BUDGET.prefetch(1_000_000, traffic(256)), 1);
    }

    #[test]
    fn large_messages_have_fewer_places() {
        assert_eq!(BUDGET.prefetch(1, traffic(1 << 20)), 63);
        assert_eq!(BUDGET.prefetch(100, traffic(1 << 20)), 1);
    }

    #[test]
    fn only_a_large_change_is_worth_a_new_consumer() {
        assert!(worth_changing(64, 16_000) && worth_changing(64, 32));
        assert!(!worth_changing(64, 100) && !worth_changing(64, 33) && !worth_changing(1, 1));
    }

    proptest! {
        #[test]
        fn all_lanes_together_stay_within_the_budget(lanes in 1_usize..10_000, bytes in 0_usize..2_000_000) {
            let each = usize::from(BUDGET.prefetch(lanes, traffic(bytes)));
            prop_assert!(each == 1 || each * lanes <= BUDGET.messages);
            prop_assert!(each == 1 || each * lanes * bytes <= BUDGET.bytes);
        }
    }
}
