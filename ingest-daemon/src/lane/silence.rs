//! Whether a lane gets what its queue has. Pure.
//!
//! A lane that stays empty while its queue does not is unwell, whatever the reason. It is restarted, and if that does
//! not help the channel is.

use std::time::{Duration, Instant};

use super::trouble::{Kind, Trouble};
use crate::clock::Now;

/// A lane that has had nothing for this long has its queue looked at.
const SILENCE: Duration = Duration::from_secs(10);

/// Restarting it did not help: it is restarted again after this, growing.
const TROUBLE_MIN: Duration = Duration::from_secs(1);
const TROUBLE_MAX: Duration = Duration::from_secs(60);

/// What is known of a lane that has nothing.
#[derive(Debug)]
pub(crate) struct Silence {
    /// Since when nothing has come.
    since: Instant,
    health: Health,
    trouble: Trouble,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    /// Nothing is wrong.
    Well,
    /// Its queue was not empty. That may have come just now.
    Doubted,
    /// It was restarted, and nothing has come since.
    Restarted,
    /// The same, and its queue was not empty.
    DoubtedAgain,
}

/// What is to be done about a lane whose queue is not empty although it gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Look again.
    Wait,
    /// Restart it.
    RestartLane,
    /// Restarting it did not help: restart it again then, or the channel now, if nobody else has anything on it.
    RestartMore {
        /// When.
        at: Instant,
    },
}

impl Silence {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            health: Health::Well,
            trouble: Trouble::none(Kind::Delivery, TROUBLE_MIN, TROUBLE_MAX),
        }
    }

    /// Its consumer was registered, so nothing could come before.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.since = now;
    }

    /// Something came, or there is nothing to come.
    pub(crate) fn broken(&mut self, now: Instant) {
        (self.since, self.health) = (now, Health::Well);
        self.trouble.end();
    }

    /// What is wrong.
    pub(crate) fn trouble(&self) -> &Trouble {
        &self.trouble
    }

    /// When it is long.
    pub(crate) fn long_at(&self) -> Instant {
        self.since + SILENCE
    }

    /// For how long it has lasted.
    pub(crate) fn length(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// So many messages wait in its queue.
    pub(crate) fn looked(&mut self, waiting: u32, now: Now) -> Remedy {
        if waiting == 0 {
            // A restart that was not needed is none that did not help.
            self.broken(now.instant);
            return Remedy::Wait;
        }
        match self.health {
            Health::Well => self.health = Health::Doubted,
            Health::Restarted => self.health = Health::DoubtedAgain,
            Health::Doubted => {
                (self.health, self.since) = (Health::Restarted, now.instant);
                return Remedy::RestartLane;
            }
            Health::DoubtedAgain => {
                (self.health, self.since) = (Health::Restarted, now.instant);
                let why = format!(
                    "{waiting} messages wait in the queue and none is delivered, to a new consumer neither: see whether \
                     another consumer is the queue's single active one, or has a higher priority, and end it"
                );
                self.trouble.fail(&why, now);
                let at = self.trouble.until().unwrap_or(now.instant);
                return Remedy::RestartMore { at };
            }
        }
        Remedy::Wait
    }
}
