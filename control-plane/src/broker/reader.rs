//! Reading a queue without changing it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use common::{
    broker::{Claim, Error, Link, Verdict},
    id::TenantId,
};
use lapin::message::Delivery;
use tokio::time::{Instant, sleep};

use super::{
    Letter,
    in_hand::{Hand, InHand},
    span::Span,
};
use crate::error::Error as CallError;

/// The reply codes of a queue that is not there, and of one that somebody consumes exclusively.
const NOT_FOUND: u16 = 404;
const REFUSED: u16 = 403;
/// The most letters that are asked of the broker together. Each time costs three round trips. A quorum queue has what it
/// gets back together in a map of Erlang's, which keeps its order up to 32.
const AHEAD_LETTERS: u16 = 1_000;
const AHEAD_LETTERS_QUORUM: u16 = 32;
/// The most of their bodies, going by the largest of those before.
const AHEAD_BYTES: usize = 4 << 20;
/// How many one channel holds. A channel searches what it has under way from the oldest on for whatever is acknowledged
/// singly: behind 50,000 that stay every one of them would cost the broker as many steps.
const SPAN_LETTERS: usize = 2_000;
/// How many are held at most so that a quorum queue keeps their order.
const RETURNED_MAX: usize = 20_000;
/// How many may be passed over by whoever looks for some: their giving back takes the broker a few seconds. From a quorum
/// queue everybody who reads it afterwards takes them all, so that they keep their order.
const PASSED_MAX: u32 = 100_000;
const PASSED_MAX_QUORUM: u32 = 10_000;
/// How long to wait until what was given back is in its queue again; what is not by then, somebody else has taken.
const GIVE_BACK_MAX: Duration = Duration::from_secs(30);
/// How often to look.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Which letter of a reader's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    span: usize,
    delivery: u64,
}

impl Tag {
    #[cfg(test)]
    pub(super) fn any() -> Self {
        Self { span: 0, delivery: 1 }
    }
}

/// Reads letters from the oldest on, on channels of its own. What is not [`done`](Self::done) goes back to its place
/// when the channels close, by [`close`](Self::close), by a drop, or by a crash.
#[derive(Debug)]
pub(crate) struct Reader {
    /// Lasts as long as its channels are used.
    link: Arc<Link>,
    tenant: TenantId,
    queue: String,
    /// Those that hold as many as they may, and the one that reads.
    spans: Vec<Span>,
    reading: Span,
    /// Whether the queue is a quorum queue, as far as is known.
    is_quorum: bool,
    hand: Hand,
    /// Read, and not yet asked for.
    ahead: VecDeque<Letter>,
    /// How many are asked of the broker together the next time: one at first, since nothing is known of their sizes.
    at_once: u16,
    /// How many of those that were there at the beginning are still unread: what arrives meanwhile is not chased.
    left: u32,
    /// Whether the queue gave fewer than were left: somebody else has taken them, or it was silent for too long.
    ended: bool,
    /// Whether the last of them had been given back to a quorum queue before, by whomever.
    returned: bool,
    /// Whether there was no room for one. It and those behind it are held like others, and nobody has read them.
    full: bool,
}

impl Reader {
    /// Begins to read what a tenant's queue has now.
    pub(super) async fn begin(
        link: Arc<Link>,
        tenant: TenantId,
        is_quorum: bool,
        in_hand: &InHand,
    ) -> Result<Self, CallError> {
        let queue = tenant.dead_letter_queue();
        let reading = Span::open(&link, &queue).await?;
        let left = reading.count().await;
        let left = left.map_err(|error| explained(error, tenant))?;
        Ok(Self {
            left,
            link,
            tenant,
            queue,
            spans: Vec::new(),
            reading,
            is_quorum,
            hand: in_hand.open(tenant, left),
            ahead: VecDeque::new(),
            at_once: 1,
            ended: false,
            returned: false,
            full: false,
        })
    }

    /// The next letter. None as well where it cannot be had: see [`broke_off`](Self::broke_off).
    pub(crate) async fn next(&mut self) -> Result<Option<Letter>, CallError> {
        if self.ahead.is_empty() && !self.ended && !self.full && self.left > 0 {
            let read = self.read().await;
            read.map_err(|error| explained(error, self.tenant))?;
        }
        Ok(self.ahead.pop_front())
    }

    /// Why reading ended before all was read that was there, if it did.
    pub(crate) fn broke_off(&self) -> Option<CallError> {
        let why = match (self.full, self.ended && self.left > 0) {
            (true, _) => "there is no room for the next dead letter beside those that other calls have",
            (false, true) => {
                "RabbitMQ gave fewer dead letters than it had: it is busy, or somebody else takes them"
            }
            (false, false) => return None,
        };
        Some(CallError::Unavailable(format!("{why}; try again")))
    }

    /// How many may be passed over by whoever looks for some.
    pub(crate) fn passed_max(&self) -> u32 {
        match self.is_quorum {
            true => PASSED_MAX_QUORUM,
            false => PASSED_MAX,
        }
    }

    /// Takes the next few together.
    async fn read(&mut self) -> Result<(), Error> {
        // A quorum queue's are given back in their order, which is that of one channel.
        if !self.is_quorum && self.reading.held() >= SPAN_LETTERS {
            let next = Span::open(&self.link, &self.queue).await?;
            self.spans.push(std::mem::replace(&mut self.reading, next));
        }
        let at_once = self.at_once.min(u16::try_from(self.left).unwrap_or(u16::MAX));
        let came = self.reading.take(at_once).await?;
        self.ended = came.len() < usize::from(at_once);
        for delivery in came {
            self.take(delivery);
        }
        let largest = self.ahead.iter().map(|letter| letter.body.len()).max();
        let most = match self.is_quorum {
            true => AHEAD_LETTERS_QUORUM,
            false => AHEAD_LETTERS,
        };
        self.at_once = at_once_next(at_once, most, largest.unwrap_or(0));
        Ok(())
    }

    fn take(&mut self, delivery: Delivery) {
        self.hand.took();
        let Claim { held, verdict } = self.reading.claim(&delivery);
        self.full |= matches!(verdict, Some(Verdict::Deferred { .. }));
        if self.full {
            // In their order, or not at all.
            return;
        }
        self.left = self.left.saturating_sub(1);
        let tag = Tag {
            span: self.spans.len(),
            delivery: delivery.delivery_tag,
        };
        let redelivered = delivery.redelivered;
        let letter = Letter::new(tag, delivery.data, delivery.properties, held);
        self.returned = redelivered && letter.is_of_a_quorum_queue();
        self.is_quorum |= self.returned;
        self.ahead.push_back(letter);
    }

    /// How many of those that were there at the beginning [`next`](Self::next) has not answered.
    pub(crate) fn left(&self) -> u32 {
        let ahead = u32::try_from(self.ahead.len()).unwrap_or(u32::MAX);
        self.left.saturating_add(ahead)
    }

    /// Takes letters out of their queue for good.
    pub(crate) async fn done(&mut self, tags: &[Tag]) -> Result<(), CallError> {
        for tags in tags.chunk_by(|one, other| one.span == other.span) {
            let at = tags.first().map_or(0, |tag| tag.span);
            let deliveries: Vec<_> = tags.iter().map(|tag| tag.delivery).collect();
            let span = self.spans.get_mut(at).unwrap_or(&mut self.reading);
            // A classic queue hears what is said to it in its turn, whatever becomes of the channel.
            let read = span.done(&deliveries, self.is_quorum).await?;
            for delivery in read {
                match self.left {
                    // It came meanwhile.
                    0 => self.hand.took(),
                    _ => self.take(delivery),
                }
            }
            self.hand.done(u32::try_from(tags.len()).unwrap_or(u32::MAX));
        }
        Ok(())
    }

    /// Gives everything else back. When this returns the broker has it in its place again, unless somebody else takes
    /// letters as well, or the broker needs longer than [`GIVE_BACK_MAX`].
    pub(crate) async fn close(mut self) {
        if let Err(error) = self.give_back().await {
            // The channels' end gives it back, too.
            tracing::warn!(%error, tenant = %self.tenant, "dead letters may be back in their queue only later");
        }
        for span in self.spans {
            span.close().await;
        }
        self.reading.close().await;
    }

    /// The broker puts back later than it is asked to, and says nothing when it has: only the count does.
    async fn give_back(&mut self) -> Result<(), Error> {
        if self.held() == 0 {
            return Ok(());
        }
        // A quorum queue puts what it gets back behind everything that it got back before: for the order to stay, that
        // has to be taken, too.
        while self.returned && !self.ended && self.left > 0 && self.held() < RETURNED_MAX {
            self.ahead.clear();
            self.read().await?;
        }
        let held = u32::try_from(self.held()).unwrap_or(u32::MAX);
        let ready = self.reading.count().await?;
        let whole = ready.saturating_add(held);
        self.hand.giving_back(whole);
        // A quorum queue's are all on one channel.
        self.reading.give_back(self.is_quorum.then_some(ready)).await?;
        // The last first: a classic queue looks for their places from its head on, past all that is back already.
        for span in self.spans.iter().rev() {
            span.give_back(None).await?;
        }
        let until = Instant::now() + GIVE_BACK_MAX;
        while self.reading.count().await? < whole {
            if Instant::now() >= until {
                return Err(Error::Timeout);
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    fn held(&self) -> usize {
        self.spans.iter().map(Span::held).sum::<usize>() + self.reading.held()
    }
}

/// How many letters to ask for together after `before`, `most` at most, where the largest body had `largest` bytes.
fn at_once_next(before: u16, most: u16, largest: usize) -> u16 {
    let fit = u16::try_from(AHEAD_BYTES / largest.max(1)).unwrap_or(u16::MAX);
    fit.min(before.saturating_mul(2)).clamp(1, most)
}

/// What the broker's answer about a tenant's dead-letter queue means to a caller.
pub(super) fn explained(error: Error, tenant: TenantId) -> CallError {
    match error.reply_code() {
        Some(NOT_FOUND) => CallError::NoQueue(tenant.dead_letter_queue()),
        Some(REFUSED) => CallError::Unavailable(format!(
            "somebody consumes the dead-letter queue of tenant {tenant} exclusively; end that consumer, and try again"
        )),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_are_asked_for_together_until_their_sizes_say_otherwise() {
        let next = |before, largest| at_once_next(before, AHEAD_LETTERS, largest);
        assert_eq!(next(1, 300), 2);
        assert_eq!(next(800, 300), AHEAD_LETTERS);
        assert_eq!(next(AHEAD_LETTERS, 0), AHEAD_LETTERS);
        assert_eq!(next(AHEAD_LETTERS, AHEAD_BYTES / 5), 5);
        assert_eq!(next(AHEAD_LETTERS, AHEAD_BYTES * 5), 1);
    }
}
