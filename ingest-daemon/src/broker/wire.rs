//! One shard's channel, for as long as it lasts: its consumers, and what they deliver.
//!
//! Only consume, cancel, qos, ack and nack happen on the channel; a consumer is registered as [`registration`] does it.
//! Where the channel closes over one all the same, its tenant is named and tried apart from then on.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use common::{
    broker::{Account, Broker, Channels, Error, Link, Purpose, within},
    id::TenantId,
};
use futures::{
    FutureExt as _, Stream, StreamExt as _,
    future::{self, BoxFuture},
    stream::{self, FuturesUnordered, SelectAll},
};
use lapin::{
    Channel, Consumer,
    options::{BasicAckOptions, BasicCancelOptions, BasicNackOptions},
};
use tracing::warn;

use super::registration::{self, Trial, Wanted, probed, refusal};
use crate::{delivery::Delivery, settle::Ack};

/// The most deliveries handed over together. More would keep the shard from its other work for too long.
const CHUNK_MAX: usize = 512;
/// How many consumers are registered at once. Each takes three round trips, so a few hide each other's.
const SUBSCRIBING_MAX: usize = 8;
/// How many channels queues are looked for on at once, and kept for that.
const PROBES_MAX: usize = 2 * SUBSCRIBING_MAX;

/// What happens on the channel.
#[derive(Debug)]
pub(crate) enum Event {
    /// The tenant's consumer is registered.
    Subscribed(TenantId),
    /// There is a queue for it, and it may be asked for a little later: it was asked to [`Trial::Look`].
    Seen(TenantId),
    /// It could not be, and why.
    Unavailable(TenantId, String),
    /// Messages came.
    Delivered(TenantId, Vec<Delivery>),
    /// The tenant's consumer is gone, cancelled by us or by the broker; nothing more comes from it.
    Ended(TenantId),
    /// So many messages wait in the tenant's queue.
    Waiting(TenantId, u32),
    /// The channel is gone, and with it every consumer and unacknowledged delivery.
    Lost(Loss),
}

/// Why a channel is gone.
#[derive(Debug)]
pub(crate) struct Loss {
    /// What happened.
    pub(crate) why: String,
    /// The tenants whose consumers it was closed over, or one of them; none, if it was nobody's.
    pub(crate) blamed: Vec<TenantId>,
}

/// A shard's channel.
pub(crate) struct Wire {
    link: Arc<Link>,
    channel: Channel,
    /// What consumer tags start with: they name the daemon.
    name: String,
    consumer_tags: HashMap<TenantId, String>,
    deliveries: SelectAll<Pin<Box<dyn Stream<Item = Event> + Send>>>,
    requests: FuturesUnordered<BoxFuture<'static, Answer>>,
    waiting: VecDeque<Wanted>,
    /// Whose consumers are being registered.
    registering: BTreeSet<TenantId>,
    /// Channels that queues are looked for on. A missing queue closes one, so in time they are of another connection.
    probes: Channels,
}

enum Answer {
    Consumer(TenantId, Result<Consumer, Failure>),
    Seen(TenantId),
    Cancelled(Result<(), Error>),
    Waiting(TenantId, Option<u32>),
}

enum Failure {
    /// The queue is not there, cannot be looked for, or may not be consumed.
    Queue(Error),
    /// The channel itself failed.
    Channel(Error),
}

impl Wire {
    /// Opens a channel on the current connection.
    pub(crate) async fn open(broker: &Broker, daemon: &str) -> Result<Self, Error> {
        let link = broker.link().await?;
        let channel = link.channel().await?;
        Ok(Self {
            link,
            channel,
            name: format!("jalur.{daemon}"),
            consumer_tags: HashMap::new(),
            deliveries: SelectAll::new(),
            requests: FuturesUnordered::new(),
            waiting: VecDeque::new(),
            registering: BTreeSet::new(),
            probes: Channels::new(broker.clone(), Purpose::Asking, PROBES_MAX),
        })
    }

    /// Asks for a consumer of the tenant's queue that holds `prefetch` messages at most. Answered by
    /// [`Event::Subscribed`], [`Event::Seen`] or [`Event::Unavailable`].
    pub(crate) fn subscribe(&mut self, tenant: TenantId, prefetch: u16, trial: Trial) {
        self.waiting.push_back(Wanted {
            tenant,
            prefetch,
            trial,
        });
        self.start_subscriptions();
    }

    /// Asks for the tenant's consumer to be cancelled, before whatever is acknowledged from now on. Answered by
    /// [`Event::Ended`].
    pub(crate) fn cancel(&mut self, tenant: TenantId) {
        let Some(tag) = self.consumer_tags.get(&tenant).cloned() else {
            return;
        };
        let (link, channel) = (Arc::clone(&self.link), self.channel.clone());
        let mut cancel = async move {
            let cancelled = channel.basic_cancel(tag.as_str().into(), BasicCancelOptions { nowait: false });
            Answer::Cancelled(registration::answered(&link, cancelled).await)
        }
        .boxed();
        // The frame is queued when the future is first polled.
        self.requests.push(match (&mut cancel).now_or_never() {
            Some(answer) => future::ready(answer).boxed(),
            None => cancel,
        });
    }

    /// Asks how many messages wait in the tenant's queue. Answered by [`Event::Waiting`], if it can be.
    pub(crate) fn look(&mut self, tenant: TenantId) {
        let probes = self.probes.clone();
        self.requests.push(
            async move {
                let queue = probed(&probes, tenant).await.ok();
                Answer::Waiting(tenant, queue.map(|queue| queue.message_count()))
            }
            .boxed(),
        );
    }

    /// Acknowledges. The frame is queued when the future is first polled, in the order of calls; that it could not be
    /// sent shows as the loss of the channel, so nobody waits for it.
    pub(crate) fn ack(&self, ack: Ack) {
        let options = BasicAckOptions {
            multiple: ack.multiple,
        };
        let _ = self.channel.basic_ack(ack.tag, options).now_or_never();
    }

    /// Gives one delivery back to its queue, in the same way.
    pub(crate) fn give_back(&self, tag: u64) {
        let options = BasicNackOptions {
            multiple: false,
            requeue: true,
        };
        let _ = self.channel.basic_nack(tag, options).now_or_never();
    }

    /// Closes the channel, after everything that was queued on it. Only then is every delivery that was not
    /// acknowledged back in its queue; where the channel cannot be closed the whole connection is given up for that.
    pub(crate) async fn close(self) {
        // Any other error says that it is closed.
        if let Err(error @ Error::Timeout) = within(self.channel.close(200, "done".into())).await {
            warn!(%error, "a channel could not be closed; giving up its connection");
            self.link.give_up();
        }
    }

    /// What happens next. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Event {
        loop {
            tokio::select! {
                () = self.link.lost() => return Event::Lost(Loss::nobodys("the connection is gone")),
                Some(answer) = self.requests.next() => {
                    if let Some(event) = self.answered(answer) {
                        return event;
                    }
                }
                Some(event) = self.deliveries.next() => {
                    if let Event::Ended(tenant) = &event {
                        self.consumer_tags.remove(tenant);
                        // A channel that fails ends its consumers in just this way.
                        if !self.channel.status().connected() {
                            return Event::Lost(self.loss());
                        }
                    }
                    return event;
                }
            }
        }
    }

    fn answered(&mut self, answer: Answer) -> Option<Event> {
        let event = match answer {
            Answer::Seen(tenant) => {
                self.registering.remove(&tenant);
                Some(Event::Seen(tenant))
            }
            // The consumer's own end says the rest.
            Answer::Cancelled(Ok(())) => None,
            Answer::Cancelled(Err(error)) => Some(Event::Lost(Loss::nobodys(&error.to_string()))),
            Answer::Waiting(tenant, waiting) => waiting.map(|waiting| Event::Waiting(tenant, waiting)),
            Answer::Consumer(tenant, consumer) => {
                let registering = self.registering.clone();
                self.registering.remove(&tenant);
                Some(match consumer {
                    Ok(consumer) => {
                        self.consumer_tags.insert(tenant, consumer.tag().to_string());
                        let account = self.link.wall().account(self.channel.id());
                        self.deliveries.push(events(tenant, consumer, account));
                        Event::Subscribed(tenant)
                    }
                    Err(Failure::Queue(error)) => Event::Unavailable(tenant, refusal(tenant, &error)),
                    Err(Failure::Channel(error)) => Event::Lost(Loss::over(&error, &registering)),
                })
            }
        };
        // Whatever it was that was answered: a subscription may have waited for it to be over.
        self.start_subscriptions();
        event
    }

    fn start_subscriptions(&mut self) {
        while self.requests.len() < SUBSCRIBING_MAX
            && let Some(wanted) = self.waiting.pop_front()
        {
            let tenant = wanted.tenant;
            self.registering.insert(tenant);
            let (link, channel, probes) = (Arc::clone(&self.link), self.channel.clone(), self.probes.clone());
            // Every delivery carries it, so what tells it from the tenant's consumers before is short.
            let tag = format!("{}.{tenant}.{:08x}", self.name, rand::random::<u32>());
            self.requests.push(
                async move {
                    match registration::is_safe(&probes, &wanted).await {
                        Ok(()) if wanted.trial == Trial::Look => Answer::Seen(tenant),
                        Ok(()) => {
                            let consumer = registration::register(&link, &channel, &wanted, &tag).await;
                            Answer::Consumer(tenant, consumer.map_err(Failure::Channel))
                        }
                        Err(error) => Answer::Consumer(tenant, Err(Failure::Queue(error))),
                    }
                }
                .boxed(),
            );
        }
    }

    /// Why the channel is closed: the request that it was closed over has its answer by now.
    fn loss(&mut self) -> Loss {
        while let Some(Some(answer)) = self.requests.next().now_or_never() {
            if let Answer::Consumer(_, Err(Failure::Channel(error))) = answer {
                return Loss::over(&error, &self.registering);
            }
        }
        Loss::nobodys("the channel is closed")
    }
}

impl Loss {
    /// A loss that is no consumer's fault.
    pub(crate) fn nobodys(why: &str) -> Self {
        Self {
            why: why.to_owned(),
            blamed: Vec::new(),
        }
    }

    /// A channel that was closed, or did not answer, over one of the consumers that were being registered. The broker
    /// names the queue; where it says nothing, any may be to blame.
    fn over(error: &Error, registering: &BTreeSet<TenantId>) -> Self {
        let why = error.to_string();
        let named: Vec<_> = registering
            .iter()
            .filter(|tenant| why.contains(&tenant.queue()))
            .copied()
            .collect();
        let silent = matches!(error, Error::Timeout);
        let blamed = match silent {
            true => registering.iter().copied().collect(),
            false => named,
        };
        Self { why, blamed }
    }
}

/// A consumer's deliveries, those that are there together, and then its end. Each is made small at once: what the
/// client hands out is large, and every adapter of a stream would move it once more.
fn events(
    tenant: TenantId,
    consumer: Consumer,
    account: Arc<Account>,
) -> Pin<Box<dyn Stream<Item = Event> + Send>> {
    // Fused, since its end may be met behind a delivery and is asked for again then.
    let mut consumer = Some(consumer.fuse());
    let next = move |cx: &mut Context<'_>| {
        let Some(deliveries) = &mut consumer else {
            return Poll::Ready(None);
        };
        let mut chunk = Vec::new();
        while chunk.len() < CHUNK_MAX {
            match deliveries.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(delivery))) => {
                    let claim = account.claim(delivery.delivery_tag, delivery.data.len());
                    chunk.push(Delivery {
                        tag: delivery.delivery_tag,
                        body: delivery.data,
                        envelope: delivery.properties.into(),
                        held: claim.held,
                        verdict: claim.verdict,
                    });
                }
                // An error is followed by the end, which says as much.
                Poll::Ready(Some(Err(_))) => {}
                Poll::Ready(None) if chunk.is_empty() => {
                    consumer = None;
                    return Poll::Ready(Some(Event::Ended(tenant)));
                }
                Poll::Pending if chunk.is_empty() => return Poll::Pending,
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Poll::Ready(Some(Event::Delivered(tenant, chunk)))
    };
    stream::poll_fn(next).boxed()
}
