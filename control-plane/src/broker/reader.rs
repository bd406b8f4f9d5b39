//! Reading a queue without changing it.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use common::{
    broker::{Account, Claim, Error, Verdict, within},
    id::TenantId,
};
use futures::{StreamExt as _, future};
use lapin::{
    Channel,
    message::Delivery,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions,
        BasicQosOptions, QueueDeclareOptions,
    },
    types::FieldTable,
};
use tokio::time::{Instant, sleep, timeout};

use super::{
    Letter,
    in_hand::{Hand, InHand},
};
use crate::error::Error as CallError;

/// The reply codes of a queue that is not there, and of one that somebody consumes exclusively.
const NOT_FOUND: u16 = 404;
const REFUSED: u16 = 403;
/// The most letters that are asked of the broker together. Each time costs three round trips.
const AHEAD_LETTERS: u16 = 128;
/// The most of their bodies, going by the largest of those before.
const AHEAD_BYTES: usize = 4 << 20;
/// How long the broker may be silent before its queue is taken to have no more. A busy machine's is for two seconds.
const SILENCE: Duration = Duration::from_secs(5);
/// How many single acknowledgements are sent together. Of many more a quorum queue's client in the broker keeps some
/// for later, and forgets those when the channel ends.
const ACKS_AT_ONCE: usize = 16;
/// How many are held at most so that a quorum queue keeps their order.
const RETURNED_MAX: usize = 20_000;
/// How long to wait until what was given back is in its queue again; what is not by then, somebody else has taken.
const GIVE_BACK_MAX: Duration = Duration::from_secs(30);
/// How often to look.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Reads letters from the oldest on, on a channel of its own. What is not [`done`](Self::done) goes back to its place
/// when the channel closes, by [`close`](Self::close), by a drop, or by a crash.
///
/// Letters come by consumers, each of which takes a few and is gone: what one consumer took, the broker puts back
/// together. What was fetched one by one it puts back one by one, each time walking past all that it has put back
/// already: of 10,000 on RabbitMQ 3.10 that took two minutes.
#[derive(Debug)]
pub(crate) struct Reader {
    channel: Channel,
    /// What is known of its deliveries.
    account: Arc<Account>,
    tenant: TenantId,
    queue: String,
    hand: Hand,
    /// Read, and not yet asked for.
    ahead: VecDeque<Letter>,
    /// How many are asked of the broker together the next time: one at first, since nothing is known of their sizes.
    at_once: u16,
    /// How many of those that were there at the beginning are still unread: what arrives meanwhile is not chased.
    left: u32,
    /// Whether the queue had fewer than were left: somebody else has taken them.
    ended: bool,
    /// The tags of those that have been read and are not done with.
    held: BTreeSet<u64>,
    /// The last tag of what each consumer took.
    ends: Vec<u64>,
    /// Whether the last of them had been given back to a quorum queue before, by whomever.
    returned: bool,
    /// Whether there was no room for one. It and those behind it are held like others, and nobody has read them.
    full: bool,
}

impl Reader {
    /// Begins to read what a tenant's queue has now.
    pub(super) async fn begin(
        channel: Channel,
        account: Arc<Account>,
        tenant: TenantId,
        in_hand: &InHand,
    ) -> Result<Self, CallError> {
        let queue = tenant.dead_letter_queue();
        let left = count(&channel, &queue).await;
        let left = left.map_err(|error| explained(error, tenant))?;
        Ok(Self {
            left,
            channel,
            account,
            tenant,
            queue,
            hand: in_hand.open(tenant, left),
            ahead: VecDeque::new(),
            at_once: 1,
            ended: false,
            held: BTreeSet::new(),
            ends: Vec::new(),
            returned: false,
            full: false,
        })
    }

    /// The next letter. None as well where there is no room for it: see [`is_full`](Self::is_full).
    pub(crate) async fn next(&mut self) -> Result<Option<Letter>, CallError> {
        if self.ahead.is_empty() && !self.ended && !self.full && self.left > 0 {
            let read = self.read().await;
            read.map_err(|error| explained(error, self.tenant))?;
        }
        Ok(self.ahead.pop_front())
    }

    /// Whether reading ended at a letter that there was no room for beside what other calls hold.
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// Takes the next few together.
    async fn read(&mut self) -> Result<(), Error> {
        let at_once = self.at_once.min(u16::try_from(self.left).unwrap_or(u16::MAX));
        within(self.channel.basic_qos(at_once, BasicQosOptions { global: false })).await?;
        let tag = format!("dead-letters-{}", self.ends.len());
        let consume = self.channel.basic_consume(
            self.queue.as_str().into(),
            tag.as_str().into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let mut consumer = within(consume).await?;
        let mut came = 0;
        while came < at_once
            && let Ok(Some(delivery)) = timeout(SILENCE, consumer.next()).await
        {
            self.take(delivery?);
            came += 1;
        }
        within(
            self.channel
                .basic_cancel(tag.as_str().into(), BasicCancelOptions::default()),
        )
        .await?;
        // What was on its way when it was cancelled.
        while let Ok(Some(delivery)) = timeout(SILENCE, consumer.next()).await {
            self.take(delivery?);
            came += 1;
        }
        self.ends.extend(self.held.last());
        self.ended = came < at_once;
        let largest = self.ahead.iter().map(|letter| letter.body.len()).max();
        self.at_once = at_once_next(at_once, largest.unwrap_or(0));
        Ok(())
    }

    fn take(&mut self, delivery: Delivery) {
        let tag = delivery.delivery_tag;
        self.held.insert(tag);
        self.hand.took();
        let Claim { held, verdict } = self.account.claim(tag, delivery.data.len());
        self.full |= matches!(verdict, Some(Verdict::Deferred { .. }));
        if self.full {
            // In their order, or not at all.
            return;
        }
        self.left = self.left.saturating_sub(1);
        let redelivered = delivery.redelivered;
        let letter = Letter::new(tag, delivery.data, delivery.properties, held);
        self.returned = redelivered && letter.is_of_a_quorum_queue();
        self.ahead.push_back(letter);
    }

    /// How many of those that were there at the beginning [`next`](Self::next) has not answered.
    pub(crate) fn left(&self) -> u32 {
        let ahead = u32::try_from(self.ahead.len()).unwrap_or(u32::MAX);
        self.left.saturating_add(ahead)
    }

    /// Takes letters out of their queue for good. When this returns the broker has done so.
    pub(crate) async fn done(&mut self, tags: &[u64]) -> Result<(), CallError> {
        let Some(&last) = tags.last() else {
            return Ok(());
        };
        if self.held.range(..=last).count() == tags.len() {
            // Nothing else lies before them: one word for all.
            within(self.channel.basic_ack(last, BasicAckOptions { multiple: true })).await?;
            self.reached().await?;
        } else {
            for some in tags.chunks(ACKS_AT_ONCE) {
                let options = BasicAckOptions { multiple: false };
                let acks = some.iter().map(|&tag| self.channel.basic_ack(tag, options));
                within(future::try_join_all(acks)).await?;
                self.reached().await?;
            }
        }
        for tag in tags {
            self.held.remove(tag);
        }
        self.hand.done(u32::try_from(tags.len()).unwrap_or(u32::MAX));
        Ok(())
    }

    /// Returns once the queue has what was said to it before. It answers a fetch in its turn, which it does not do
    /// with a passive declare; what it answers with is read, too.
    async fn reached(&mut self) -> Result<(), Error> {
        let options = BasicGetOptions { no_ack: false };
        let got = within(self.channel.basic_get(self.queue.as_str().into(), options)).await?;
        let Some(message) = got else {
            return Ok(());
        };
        self.ends.push(message.delivery.delivery_tag);
        if self.left > 0 {
            self.take(message.delivery);
        } else {
            self.held.insert(message.delivery.delivery_tag);
            self.hand.took();
        }
        Ok(())
    }

    /// Gives everything else back. When this returns the broker has it in its place again, unless somebody else takes
    /// letters as well, or the broker needs longer than [`GIVE_BACK_MAX`].
    pub(crate) async fn close(mut self) {
        if let Err(error) = self.give_back().await {
            // The channel's end gives it back, too.
            tracing::warn!(%error, tenant = %self.tenant, "dead letters may be back in their queue only later");
        }
        close(self.channel).await;
    }

    /// The broker puts back later than it is asked to, and says nothing when it has: only the count does.
    async fn give_back(&mut self) -> Result<(), Error> {
        if self.held.is_empty() {
            return Ok(());
        }
        // A quorum queue puts what it gets back behind everything that it got back before: for the order to stay, that
        // has to be taken, too.
        while self.returned && !self.ended && self.left > 0 && self.held.len() < RETURNED_MAX {
            self.ahead.clear();
            self.read().await?;
        }
        let held = u32::try_from(self.held.len()).unwrap_or(u32::MAX);
        let whole = count(&self.channel, &self.queue).await?.saturating_add(held);
        self.hand.giving_back(whole);
        // In the order in which they came: a quorum queue gives them out again in the order in which it got them back.
        let mut before = 0;
        for &end in &self.ends {
            let Some(&last) = self.held.range(before..=end).next_back() else {
                continue;
            };
            let options = BasicNackOptions {
                multiple: true,
                requeue: true,
            };
            within(self.channel.basic_nack(last, options)).await?;
            before = end + 1;
        }
        let until = Instant::now() + GIVE_BACK_MAX;
        while count(&self.channel, &self.queue).await? < whole {
            if Instant::now() >= until {
                return Err(Error::Timeout);
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

/// How many messages a queue has ready.
async fn count(channel: &Channel, queue: &str) -> Result<u32, Error> {
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let declared = within(channel.queue_declare(queue.into(), options, FieldTable::default()));
    Ok(declared.await?.message_count())
}

/// How many letters to ask for together after `before`, of which the largest body had `largest` bytes.
fn at_once_next(before: u16, largest: usize) -> u16 {
    let fit = u16::try_from(AHEAD_BYTES / largest.max(1)).unwrap_or(u16::MAX);
    fit.min(before.saturating_mul(2)).clamp(1, AHEAD_LETTERS)
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

/// Closes a channel that has done its work. One that is lost already needs no closing.
pub(super) async fn close(channel: Channel) {
    if let Err(error) = within(channel.close(200, "done".into())).await {
        tracing::debug!(%error, "could not close a channel");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_are_asked_for_together_until_their_sizes_say_otherwise() {
        assert_eq!(at_once_next(1, 300), 2);
        assert_eq!(at_once_next(64, 300), AHEAD_LETTERS);
        assert_eq!(at_once_next(AHEAD_LETTERS, 0), AHEAD_LETTERS);
        assert_eq!(at_once_next(AHEAD_LETTERS, AHEAD_BYTES / 5), 5);
        assert_eq!(at_once_next(AHEAD_LETTERS, AHEAD_BYTES * 5), 1);
    }
}
