//! One shard's channel, for as long as it lasts: its consumers, and what they deliver.
//!
//! Only consume, cancel, qos, ack and nack happen on the channel. Whether a queue exists is asked on another one just
//! before it is consumed: consuming a queue that is not there would close the channel, and its neighbours with it. So
//! would consuming one that somebody holds exclusively: where others consume already, it is tried on a channel of its
//! own first. Where the channel closes over a consumer all the same, its tenant is named and tried so from then on.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use common::{
    broker::{Account, Broker, Error, Link, within},
    id::TenantId,
};
use futures::{
    FutureExt as _, Stream, StreamExt as _,
    future::{self, BoxFuture},
    stream::{self, FuturesUnordered, SelectAll},
};
use lapin::{
    Channel, Consumer, Queue,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use tracing::warn;

use crate::{delivery::Delivery, settle::Ack};

/// The most deliveries handed over together. More would keep the shard from its other work for too long.
const CHUNK_MAX: usize = 512;
/// A consumer's priority, and that of one on trial: it gets nothing while another takes it.
const NORMAL: i32 = 0;
const TRIAL: i32 = -1_000;
/// How many consumers are registered at once. Each takes three round trips, so a few hide each other's.
const SUBSCRIBING_MAX: usize = 8;

/// What happens on the channel.
#[derive(Debug)]
pub(crate) enum Event {
    /// The tenant's consumer is registered.
    Subscribed(TenantId),
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
    /// Channels that queues are looked for on. A missing queue closes one.
    probes: Vec<Channel>,
}

/// A consumer that is wanted.
struct Wanted {
    tenant: TenantId,
    prefetch: u16,
    /// Try it on a channel of its own first, whatever the queue says.
    wary: bool,
}

enum Answer {
    Consumer(TenantId, Result<Consumer, Failure>, Option<Channel>),
    Cancelled(Result<(), Error>),
    Waiting(TenantId, Option<(Channel, u32)>),
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
            probes: Vec::new(),
        })
    }

    /// Asks for a consumer of the tenant's queue that holds `prefetch` messages at most, on a channel of its own first if
    /// it is to be `wary` of it. Answered by [`Event::Subscribed`] or [`Event::Unavailable`].
    pub(crate) fn subscribe(&mut self, tenant: TenantId, prefetch: u16, wary: bool) {
        self.waiting.push_back(Wanted {
            tenant,
            prefetch,
            wary,
        });
        self.start_subscriptions();
    }

    /// Asks for the tenant's consumer to be cancelled. Answered by [`Event::Ended`].
    pub(crate) fn cancel(&mut self, tenant: TenantId) {
        let Some(tag) = self.consumer_tags.get(&tenant).cloned() else {
            return;
        };
        let channel = self.channel.clone();
        self.requests.push(
            async move {
                let cancelled =
                    channel.basic_cancel(tag.as_str().into(), BasicCancelOptions { nowait: false });
                Answer::Cancelled(within(cancelled).await)
            }
            .boxed(),
        );
    }

    /// Asks how many messages wait in the tenant's queue. Answered by [`Event::Waiting`], if it can be.
    pub(crate) fn look(&mut self, tenant: TenantId) {
        let (link, probe) = (Arc::clone(&self.link), self.probes.pop());
        self.requests.push(
            async move {
                let looked = probed(&link, probe, tenant).await.ok();
                Answer::Waiting(
                    tenant,
                    looked.map(|(probe, queue)| (probe, queue.message_count())),
                )
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
            // The consumer's own end says the rest.
            Answer::Cancelled(Ok(())) => None,
            Answer::Cancelled(Err(error)) => Some(Event::Lost(Loss::nobodys(&error.to_string()))),
            Answer::Waiting(tenant, answer) => answer.map(|(probe, waiting)| {
                self.probes.push(probe);
                Event::Waiting(tenant, waiting)
            }),
            Answer::Consumer(tenant, consumer, probe) => {
                self.probes.extend(probe);
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
            let (link, channel, probe) = (Arc::clone(&self.link), self.channel.clone(), self.probes.pop());
            // Every delivery carries it, so what tells it from the tenant's consumers before is short.
            let tag = format!("{}.{tenant}.{:08x}", self.name, rand::random::<u32>());
            self.requests.push(
                async move {
                    match safe(&link, probe, &wanted).await {
                        Ok(probe) => {
                            let consumer = consume(&channel, tenant, &tag, wanted.prefetch, NORMAL).await;
                            Answer::Consumer(tenant, consumer.map_err(Failure::Channel), Some(probe))
                        }
                        Err(error) => Answer::Consumer(tenant, Err(Failure::Queue(error)), None),
                    }
                }
                .boxed(),
            );
        }
    }

    /// Why the channel is closed: the request that it was closed over has its answer by now.
    fn loss(&mut self) -> Loss {
        while let Some(Some(answer)) = self.requests.next().now_or_never() {
            if let Answer::Consumer(_, Err(Failure::Channel(error)), _) = answer {
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

/// What a refused consumer is told an operator.
fn refusal(tenant: TenantId, error: &Error) -> String {
    let queue = tenant.queue();
    match error.reply_code() {
        Some(404) => {
            format!("the queue {queue} does not exist; it is declared again as long as its tenant lives")
        }
        Some(403) => format!(
            "the broker does not let the queue {queue} be consumed: another consumer holds it exclusively, or this \
             user may not read it ({error})"
        ),
        Some(405) => format!(
            "the queue {queue} belongs to another connection exclusively: close that, and delete the queue"
        ),
        _ => format!("the queue {queue} cannot be consumed: {error}"),
    }
}

/// Makes sure, as far as that can be known beforehand, that consuming a queue does not close the channel. Answers the
/// probe's channel.
async fn safe(link: &Link, probe: Option<Channel>, wanted: &Wanted) -> Result<Channel, Error> {
    let (probe, queue) = probed(link, probe, wanted.tenant).await?;
    if wanted.wary || queue.consumer_count() > 0 {
        let trial = link.channel().await?;
        consume(&trial, wanted.tenant, "", 1, TRIAL).await?;
        // What it may have got goes back to the queue.
        let _ = within(trial.close(200, "done".into())).await;
    }
    Ok(probe)
}

/// Answers the probe's channel, and the tenant's queue if it is there.
async fn probed(link: &Link, probe: Option<Channel>, tenant: TenantId) -> Result<(Channel, Queue), Error> {
    let probe = match probe {
        Some(probe) => probe,
        None => link.channel().await?,
    };
    // Passive: only the control plane declares queues; declaring one here could bring a deleted one back.
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let queue = within(probe.queue_declare(tenant.queue().into(), options, FieldTable::default())).await?;
    Ok((probe, queue))
}

async fn consume(
    channel: &Channel,
    tenant: TenantId,
    tag: &str,
    prefetch: u16,
    priority: i32,
) -> Result<Consumer, Error> {
    // Per consumer: `global` would bound the channel, which all its tenants share. It holds for the consumers that
    // are registered after it, so the two requests must follow each other on the channel: `join` polls them in this
    // order and at once, and they are queued when first polled.
    let qos = channel.basic_qos(prefetch, BasicQosOptions { global: false });
    let options = BasicConsumeOptions {
        no_ack: false,    // acknowledged after the commit
        exclusive: false, // a tenant may be spread over daemons, and overlaps while it moves
        no_local: false,  // RabbitMQ does not know it
        nowait: false,    // the lane runs once the broker says so
    };
    let mut arguments = FieldTable::default();
    if priority != NORMAL {
        arguments.insert("x-priority".into(), AMQPValue::LongInt(priority));
    }
    let consumer = channel.basic_consume(tenant.queue().into(), tag.into(), options, arguments);
    let (qos, consumer) = within(async { Ok(future::join(qos, consumer).await) }).await?;
    qos.and(consumer).map_err(Error::from)
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
