//! How many refused calls are written down.

use std::time::{Duration, Instant};

/// So many in a second; others are counted.
const IN_A_SECOND: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);

/// What is left of a second's.
#[derive(Debug, Default)]
pub(super) struct Budget {
    began: Option<Instant>,
    spent: u32,
    left_out: u64,
}

impl Budget {
    /// Whether one more may be written down: then with how many were not since the last that was.
    pub(super) fn spend(&mut self, now: Instant) -> Option<u64> {
        if self.began.is_none_or(|began| now.duration_since(began) >= SECOND) {
            self.began = Some(now);
            self.spent = 0;
        }
        if self.spent == IN_A_SECOND {
            self.left_out += 1;
            return None;
        }
        self.spent += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_a_second_are_written_down_and_the_others_counted() {
        let (start, mut budget) = (Instant::now(), Budget::default());
        let mut written = Vec::new();
        for millis in 0..3_000 {
            let spent = budget.spend(start + Duration::from_millis(millis));
            written.extend(spent.map(|left_out| (millis, left_out)));
        }
        assert_eq!(written.len(), 3 * IN_A_SECOND as usize);
        assert!(written[..10].iter().all(|(_, left_out)| *left_out == 0));
        assert_eq!(written[10], (1_000, 990));
        assert_eq!(written[11], (1_001, 0));
        assert_eq!(written[20], (2_000, 990));
    }

    #[test]
    fn a_quiet_time_saves_nothing_up() {
        let (start, mut budget) = (Instant::now(), Budget::default());
        let later = start + Duration::from_secs(3_600);
        assert_eq!(budget.spend(start), Some(0));
        let written = (0..100).filter(|_| budget.spend(later).is_some()).count();
        assert_eq!(written, IN_A_SECOND as usize);
    }
}
