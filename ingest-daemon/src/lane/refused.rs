//! Rows that PostgreSQL refuses while others commit: they wait here, apart from their lane's other messages, and are
//! tried again alone. Pure.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use crate::delivery::{DeadLetter, Message};

/// How often a row is tried.
const ATTEMPTS_MAX: u32 = 5;
/// The pause after the first attempt; it doubles with each.
const PAUSE: Duration = Duration::from_millis(200);

/// What becomes of a refused row.
#[derive(Debug)]
pub(crate) enum Next {
    /// It is tried again at this time.
    Again(Instant),
    /// It has failed for good.
    Dead(Box<DeadLetter>),
}

/// One lane's refused rows. As many as it may hold messages: they stay unacknowledged.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    /// By when they are due, and by tag where that is the same.
    waiting: BTreeMap<(Instant, u64), Message>,
}

impl Refused {
    /// A row was refused, alone.
    pub(crate) fn refuse(
        &mut self,
        mut message: Message,
        detail: String,
        now: Instant,
        time: SystemTime,
    ) -> Next {
        message.attempts += 1;
        message.first_failed.get_or_insert(time);
        if message.attempts >= ATTEMPTS_MAX {
            return Next::Dead(Box::new(message.refused(detail, time)));
        }
        let due = now + PAUSE * (1 << (message.attempts - 1));
        self.waiting.insert((due, message.tag), message);
        Next::Again(due)
    }

    /// A row was not tried after all; it is due at once.
    pub(crate) fn put_back(&mut self, message: Message, now: Instant) {
        self.waiting.insert((now, message.tag), message);
    }

    /// The row that is due the longest.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Message> {
        let first = self.waiting.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }

    /// Whether a row is due.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.waiting
            .first_key_value()
            .is_some_and(|(key, _)| key.0 <= now)
    }

    /// Everything that waits.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Message> {
        std::mem::take(&mut self.waiting).into_values()
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::lane::tests::message;

    #[test]
    fn a_row_is_tried_five_times_with_growing_pauses_and_then_dead() {
        let mut refused = Refused::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        let mut row = message(1);
        let letter = loop {
            match refused.refuse(row, "check".into(), now, UNIX_EPOCH) {
                Next::Again(due) => {
                    assert!(!refused.is_due(now) && refused.take_due(now).is_none());
                    pauses.push((due - now).as_millis());
                    now = due;
                    row = refused.take_due(now).unwrap();
                }
                Next::Dead(letter) => break letter,
            }
        };
        assert_eq!(pauses, [200, 400, 800, 1_600]);
        assert_eq!((letter.attempts, letter.first_failed), (5, UNIX_EPOCH));
        assert_eq!(letter.detail, "check");
    }
}
