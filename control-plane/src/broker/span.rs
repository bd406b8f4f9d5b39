//! Letters that were taken on one channel, and are held there.
//!
//! They come by consumers, each of which takes a few and is gone: what one consumer took, the broker puts back together.
//! What was fetched one by one it puts back one by one, each time walking past all that it has put back already: of
//! 10,000 on RabbitMQ 3.10 that took two minutes.

use std::{sync::Arc, time::Duration};

use common::broker::{Account, Claim, Error, Link, within};
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

use super::holding::Holding;

/// How long the broker may be silent before its queue is taken to have no more. A busy machine's is for two seconds.
const SILENCE: Duration = Duration::from_secs(5);
/// How many single acknowledgements are sent together. Of many more a quorum queue's client in the broker keeps some
/// for later, and forgets those when the channel ends.
const ACKS_AT_ONCE: usize = 16;

/// How many pieces are given back to a quorum queue together. Of more than 32 commands its client in the broker keeps some
/// for later, too, and sends them in no order.
const PIECES_AT_ONCE: u32 = 16;
/// How long it is waited for these: a few milliseconds, unless somebody else takes letters meanwhile.
const PIECES_MAX: Duration = Duration::from_secs(1);
/// How often to look.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A channel, and what it has of a queue.
#[derive(Debug)]
pub(super) struct Span {
    channel: Channel,
    /// What is known of its deliveries.
    account: Arc<Account>,
    queue: String,
    held: Holding,
    /// How many consumers it has had.
    consumers: u64,
}

impl Span {
    pub(super) async fn open(link: &Link, queue: &str) -> Result<Self, Error> {
        let channel = link.channel().await?;
        Ok(Self {
            account: link.wall().account(channel.id()),
            channel,
            queue: queue.to_owned(),
            held: Holding::default(),
            consumers: 0,
        })
    }

    /// How many it holds.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// What is known of a delivery, which is asked once.
    pub(super) fn claim(&self, delivery: &Delivery) -> Claim {
        self.account.claim(delivery.delivery_tag, delivery.data.len())
    }

    /// How many messages the queue has ready.
    pub(super) async fn count(&self) -> Result<u32, Error> {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let declared = self
            .channel
            .queue_declare(self.queue.as_str().into(), options, FieldTable::default());
        Ok(within(declared).await?.message_count())
    }

    /// Takes the next few together; fewer if there are no more.
    pub(super) async fn take(&mut self, count: u16) -> Result<Vec<Delivery>, Error> {
        let qos = self.channel.basic_qos(count, BasicQosOptions { global: false });
        within(qos).await?;
        let tag = format!("dead-letters-{}", self.consumers);
        self.consumers += 1;
        let consume = self.channel.basic_consume(
            self.queue.as_str().into(),
            tag.as_str().into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let mut consumer = within(consume).await?;
        let mut came = Vec::with_capacity(count.into());
        while came.len() < usize::from(count)
            && let Ok(Some(delivery)) = timeout(SILENCE, consumer.next()).await
        {
            came.push(delivery?);
        }
        let cancel = self
            .channel
            .basic_cancel(tag.as_str().into(), BasicCancelOptions::default());
        within(cancel).await?;
        // What was on its way when it was cancelled.
        while let Ok(Some(delivery)) = timeout(SILENCE, consumer.next()).await {
            came.push(delivery?);
        }
        self.held.took(came.iter().map(|delivery| delivery.delivery_tag));
        Ok(came)
    }

    /// Takes these out of the queue for good. With `awaited` the queue has done so when this returns, and what it has
    /// answered with is read, too.
    pub(super) async fn done(&mut self, tags: &[u64], awaited: bool) -> Result<Vec<Delivery>, Error> {
        let Some(&last) = tags.last() else {
            return Ok(Vec::new());
        };
        let mut read = Vec::new();
        if self.held.is_first(tags) {
            // Nothing else lies before them: one word for all.
            within(self.channel.basic_ack(last, BasicAckOptions { multiple: true })).await?;
            if awaited {
                read.extend(self.reached().await?);
            }
        } else {
            for some in tags.chunks(ACKS_AT_ONCE) {
                let options = BasicAckOptions { multiple: false };
                let acks = some.iter().map(|&tag| self.channel.basic_ack(tag, options));
                within(future::try_join_all(acks)).await?;
                if awaited {
                    read.extend(self.reached().await?);
                }
            }
        }
        self.held.done(tags);
        Ok(read)
    }

    /// Returns once the queue has what was said to it before: it answers a fetch in its turn, which it does not do with
    /// a passive declare.
    async fn reached(&mut self) -> Result<Option<Delivery>, Error> {
        let options = BasicGetOptions { no_ack: false };
        let got = within(self.channel.basic_get(self.queue.as_str().into(), options)).await?;
        let delivery = got.map(|message| message.delivery);
        self.held
            .took(delivery.iter().map(|delivery| delivery.delivery_tag));
        Ok(delivery)
    }

    /// Gives everything back, in the order in which it came. With `ready`, which is how many the queue has now, it
    /// sees that the queue has a few of them before it sends the next.
    pub(super) async fn give_back(&self, ready: Option<u32>) -> Result<(), Error> {
        let (mut given, mut pieces) = (0, 0);
        for piece in self.held.pieces() {
            if let Some(ready) = ready
                && pieces == PIECES_AT_ONCE
            {
                self.has(ready.saturating_add(given)).await?;
                pieces = 0;
            }
            pieces += 1;
            given += piece.count;
            let options = BasicNackOptions {
                multiple: true,
                requeue: true,
            };
            within(self.channel.basic_nack(piece.last, options)).await?;
        }
        Ok(())
    }

    /// Returns once the queue has so many ready, or somebody else has taken some.
    async fn has(&self, wanted: u32) -> Result<(), Error> {
        let until = Instant::now() + PIECES_MAX;
        while self.count().await? < wanted && Instant::now() < until {
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    pub(super) async fn close(self) {
        close(self.channel).await;
    }
}

/// Closes a channel that has done its work. One that is lost already needs no closing.
pub(super) async fn close(channel: Channel) {
    if let Err(error) = within(channel.close(200, "done".into())).await {
        tracing::debug!(%error, "could not close a channel");
    }
}
