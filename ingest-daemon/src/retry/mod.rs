//! When a message that PostgreSQL refused is tried again, and when no more; and how many wait for that. Pure, but for
//! [`store`] and [`waiting`].

mod store;
mod waiting;

use std::{sync::Arc, time::Duration};

pub(crate) use self::{
    store::Store,
    waiting::{Sweeps, Waiting},
};
use crate::delivery::Destination;

/// The pauses between attempts: one attempt more than there are of these.
#[derive(Clone, Debug)]
pub(crate) struct Policy(Arc<[Duration]>);

impl Policy {
    pub(crate) fn new(delays: &[Duration]) -> Self {
        Self(delays.into())
    }

    /// Where a message goes that has been refused `attempts` times by now.
    pub(crate) fn after(&self, attempts: u32) -> Destination {
        let index = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
        self.0
            .get(index)
            .map_or(Destination::DeadLetters, |&delay| Destination::Delay(delay))
    }

    /// Every delay.
    pub(crate) fn delays(&self) -> &[Duration] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attempt_has_its_delay_and_the_last_has_none() {
        let delays = [1, 5, 30].map(Duration::from_secs);
        let policy = Policy::new(&delays);
        for (attempts, delay) in (1..).zip(delays) {
            assert_eq!(policy.after(attempts), Destination::Delay(delay));
        }
        assert_eq!(policy.after(4), Destination::DeadLetters);
        assert_eq!(policy.after(u32::MAX), Destination::DeadLetters);
    }

    #[test]
    fn without_delays_the_first_attempt_is_the_last() {
        assert_eq!(Policy::new(&[]).after(1), Destination::DeadLetters);
    }
}
