//! A lane's letters: messages that failed, on their way to a delay queue or the dead letters. Pure.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::trouble::{Kind, Trouble};
use crate::{clock::Now, delivery::Letter};

/// A letter could not be published.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Letters of one lane being published at once.
const PUBLISHING_MAX: usize = 8;

/// A lane's letters.
#[derive(Debug)]
pub(crate) struct Outbox {
    waiting: VecDeque<Box<Letter>>,
    /// How many more are being published.
    publishing: usize,
    trouble: Trouble,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            publishing: 0,
            trouble: Trouble::none(Kind::Letters, PAUSE_MIN, PAUSE_MAX),
        }
    }
}

impl Outbox {
    /// A letter is to be published.
    pub(crate) fn push(&mut self, letter: Box<Letter>) {
        self.waiting.push_back(letter);
    }

    /// Takes the letters that can be published now.
    pub(crate) fn take(&mut self, now: Instant) -> impl Iterator<Item = Box<Letter>> {
        // Where the last one failed, one finds out whether that is over.
        let most = if self.trouble.is_there() {
            1
        } else {
            PUBLISHING_MAX
        };
        let room = match self.trouble.holds(now) {
            true => 0,
            false => most.saturating_sub(self.publishing).min(self.waiting.len()),
        };
        self.publishing += room;
        self.waiting.drain(..room)
    }

    /// A letter is safe. Answers whether a problem has ended.
    pub(crate) fn published(&mut self) -> bool {
        self.publishing = self.publishing.saturating_sub(1);
        self.trouble.end()
    }

    /// A letter could not be published, and is to be again. Answers whether that is new.
    pub(crate) fn failed(&mut self, letter: Box<Letter>, why: &str, now: Now) -> bool {
        self.publishing = self.publishing.saturating_sub(1);
        self.waiting.push_front(letter);
        self.trouble.fail(why, now)
    }

    /// Whether letters are under way.
    pub(crate) fn is_publishing(&self) -> bool {
        self.publishing > 0
    }

    /// What is wrong.
    pub(crate) fn trouble(&self) -> &Trouble {
        &self.trouble
    }

    /// When the next is to be tried, if one waits for that.
    pub(super) fn due(&self) -> Option<Instant> {
        self.trouble.until().filter(|_| !self.waiting.is_empty())
    }

    /// Takes what is not under way, as delivery tags.
    pub(super) fn take_idle(&mut self) -> impl Iterator<Item = u64> {
        std::mem::take(&mut self.waiting)
            .into_iter()
            .map(|letter| letter.tag)
    }

    /// Forgets every letter.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
        self.publishing = 0;
    }
}
