//! The way back out of the delay queues: what was refused comes to its tenant's queue again when its time has come.
//!
//! The broker could do that itself, by expiry and dead-lettering, and loses messages over it: to a quorum queue that
//! has no leader yet, right after a crash, and to a classic one that is full. (Its at-least-once kind keeps what it
//! cannot get rid of, and a few dozen messages of deleted tenants or for full queues then stand in everybody's way.)
//! So a message is acknowledged here after the broker has confirmed its copy where it is to go, and what finds no room
//! there waits once more. A crash in between makes a second copy, under the same id.
//!
//! Nothing is consumed: a queue is counted, its oldest message looked at, and left alone until that is due. So it can
//! be seen how many wait, nobody holds them meanwhile, and any daemon can do it, or several at once. It is done on a
//! connection of its own: a queue that the broker cannot read from may cost that.

use std::{
    collections::HashSet,
    convert::Infallible,
    sync::Arc,
    time::{Duration, SystemTime},
};

use common::{
    broker::{
        Broker, Error, Link,
        publisher::{self, Error as PublishError, Message, Publisher, Route},
        within,
    },
    id::TenantId,
};
use futures::future;
use lapin::{
    BasicProperties, Channel,
    message::BasicGetMessage,
    options::{BasicAckOptions, BasicGetOptions, BasicNackOptions, QueueDeclareOptions},
    types::FieldTable,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{
    Envelope,
    delays::{self, Delays},
};
use crate::retry::{Sweeps, Waiting};

/// A queue is looked at so many times within its delay, and between these often.
const LOOKS: u32 = 4;
const LOOK_MIN: Duration = Duration::from_millis(50);
const LOOK_MAX: Duration = Duration::from_secs(1);
/// What is sent home together, from one queue: so many, or little more than so many bytes.
const BATCH_MAX: usize = 32;
const BATCH_BYTES: usize = 1 << 20;
/// How long the broker may take for one. What has no answer by then waits once more, so that nobody waits for it.
const PATIENCE: Duration = Duration::from_secs(5);
/// The reply code of a queue that is not there.
const NOT_FOUND: u16 = 404;
/// After the broker failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How often it is asked which delays there are beside the configured ones, and whether their queues are there.
const OTHERS_EVERY: Duration = Duration::from_secs(60);
/// How long a message without a queue waits for that: a living tenant's is made again within seconds.
const HOMELESS_MAX: Duration = Duration::from_secs(10);

/// Brings back what waits in the delay queues.
#[derive(Clone, Debug)]
pub(crate) struct Returns {
    broker: Broker,
    publisher: Publisher,
    delays: Arc<Delays>,
    waiting: Arc<Waiting>,
}

impl Returns {
    pub(crate) fn new(broker: Broker, delays: Arc<Delays>, waiting: Arc<Waiting>) -> Self {
        Self {
            publisher: Publisher::new(broker.clone(), BATCH_MAX, Some(PATIENCE)),
            broker,
            delays,
            waiting,
        }
    }

    /// Runs until `stop`. What is under way then goes back to its queue with the connection.
    pub(crate) async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.serve_all()).await;
    }

    /// Serves every delay that there is, and that there has ever been.
    async fn serve_all(&self) {
        let (mut served, mut serving) = (HashSet::new(), JoinSet::new());
        let mut serve = |serving: &mut JoinSet<Infallible>, delays: &[Duration], pause| {
            for &delay in delays {
                if served.insert(delay) {
                    let this = self.clone();
                    serving.spawn(async move { this.serve(delay, pause).await });
                }
            }
        };
        serve(&mut serving, self.delays.configured(), PAUSE);
        let mut pause = Duration::ZERO;
        loop {
            let known = async {
                sleep(pause).await;
                self.delays.known().await
            };
            tokio::select! {
                known = known => match known {
                    Ok(known) => {
                        serve(&mut serving, &known, OTHERS_EVERY);
                        pause = OTHERS_EVERY;
                    }
                    Err(error) => {
                        debug!(%error, "the delays cannot be written down yet");
                        pause = PAUSE;
                    }
                },
                // It does not end, but for a panic, which is to end the program.
                Some(Err(failed)) = serving.join_next() => {
                    if let Ok(panic) = failed.try_into_panic() {
                        std::panic::resume_unwind(panic);
                    }
                }
            }
        }
    }

    /// Serves the queue of a delay, with this pause after a failure.
    async fn serve(&self, delay: Duration, pause: Duration) -> Infallible {
        loop {
            let Err(error) = self.serve_channel(delay).await;
            debug!(%error, ?delay, "a delay queue could not be looked at");
            if error.reply_code() == Some(NOT_FOUND) && self.delays.configured().contains(&delay) {
                self.delays.missing().await;
            }
            sleep(pause).await;
        }
    }

    /// Serves a queue for as long as a channel lasts.
    async fn serve_channel(&self, delay: Duration) -> Result<Infallible, Error> {
        let link = self.broker.link().await?;
        self.delays.declare(&link).await?;
        let queue = DelayQueue::open(link, delay).await?;
        let served = self.serve_queue(&queue).await;
        // What it holds goes back at once.
        let _ = within(queue.channel.close(200, "done".into())).await;
        served
    }

    async fn serve_queue(&self, queue: &DelayQueue) -> Result<Infallible, Error> {
        let mut sweeps = Sweeps::new(Instant::now());
        loop {
            let Look { due, before, pause } = queue.look().await?;
            let came: Vec<_> = due
                .iter()
                .filter_map(|message| Envelope::due_at(&message.delivery.properties))
                .collect();
            let sent = future::join_all(due.into_iter().map(|message| self.send_home(queue, message))).await;
            sent.into_iter().collect::<Result<(), _>>()?;
            came.into_iter().for_each(|due| sweeps.came_back(due));
            self.wait(queue, &mut sweeps, before, pause).await;
        }
    }

    /// Waits until the queue is to be looked at again, and counts off what came back. Nothing is due meanwhile: what was
    /// by any moment until then is back by `before`.
    async fn wait(&self, queue: &DelayQueue, sweeps: &mut Sweeps, before: SystemTime, pause: Duration) {
        let until = Instant::now() + pause;
        let mut before = before;
        loop {
            if sweeps.is_due(before, Instant::now()) {
                self.waiting.back(queue.delay, before).await;
            }
            let now = Instant::now();
            if now >= until {
                return;
            }
            let slept = (until - now).min(sweeps.pause());
            sleep(slept).await;
            before += slept;
        }
    }

    async fn send_home(&self, queue: &DelayQueue, message: BasicGetMessage) -> Result<(), Error> {
        let message = message.delivery;
        let envelope = Envelope::from(message.properties);
        let home = Route::queue(message.routing_key.to_string());
        let now = SystemTime::now();
        let homeless = match self.send(&home, &message.data, envelope.homeward()).await {
            Ok(()) => return queue.done(message.delivery_tag).await,
            Err(PublishError::Unroutable(_)) => {
                let since = envelope.homeless_since().unwrap_or(now);
                if now.duration_since(since).is_ok_and(|since| since > HOMELESS_MAX) {
                    info!(
                        queue = home.key,
                        id = envelope.id(),
                        "a retry is dropped: its queue is gone"
                    );
                    return queue.done(message.delivery_tag).await;
                }
                Some(since)
            }
            Err(PublishError::Refused | PublishError::Broker(Error::Timeout)) => None,
            Err(PublishError::Broker(error)) => return Err(error),
        };
        let again = Route {
            exchange: queue.name.clone(),
            key: home.key,
        };
        match self
            .send(&again, &message.data, envelope.again(now + queue.delay, homeless))
            .await
        {
            Ok(()) => {
                if let Some(tenant) = TenantId::of_queue(&again.key) {
                    self.waiting.add(tenant, queue.delay, now + queue.delay).await;
                }
                queue.done(message.delivery_tag).await
            }
            Err(PublishError::Broker(error)) => Err(error),
            // Its own queue is gone, or full. The one that there is stays where it is.
            Err(error @ (PublishError::Unroutable(_) | PublishError::Refused)) => {
                debug!(%error, queue = again.exchange, "a retry stays");
                Err(Error::Down)
            }
        }
    }

    async fn send(
        &self,
        route: &Route,
        body: &[u8],
        properties: BasicProperties,
    ) -> Result<(), publisher::Error> {
        let message = Message {
            body: body.into(),
            properties,
        };
        self.publisher.publish(route, vec![message]).await
    }
}

/// What a look at a delay's queue has shown.
struct Look {
    /// What is due now.
    due: Vec<BasicGetMessage>,
    /// All that was due before then is back, once these are.
    before: SystemTime,
    /// When to look again.
    pause: Duration,
}

/// A delay's queue, on a channel of its own.
struct DelayQueue {
    delay: Duration,
    name: String,
    channel: Channel,
    /// Lasts as long as the channel is used.
    _link: Arc<Link>,
}

impl DelayQueue {
    async fn open(link: Arc<Link>, delay: Duration) -> Result<Self, Error> {
        Ok(Self {
            delay,
            name: delays::name(delay),
            channel: link.channel().await?,
            _link: link,
        })
    }

    /// Takes what is due. The oldest is due first.
    async fn look(&self) -> Result<Look, Error> {
        let (mut due, mut bytes) = (Vec::new(), 0);
        let before = SystemTime::now();
        let mut last = before;
        // Counted first: that a quorum queue was asked for a message goes to its log, whether it had one or not.
        for _ in 0..self.count().await? {
            if due.len() == BATCH_MAX || bytes > BATCH_BYTES {
                return Ok(Look {
                    due,
                    before: last.min(before),
                    pause: Duration::ZERO,
                });
            }
            let Some(message) = self.get().await? else {
                break;
            };
            // What does not say when is from an earlier version.
            let at = Envelope::due_at(&message.delivery.properties);
            if let Some(wait) = at.and_then(|at| at.duration_since(SystemTime::now()).ok()) {
                self.give_back(message.delivery.delivery_tag).await?;
                // No longer than the delay, should clocks differ.
                let pause = wait.min(self.delay);
                return Ok(Look { due, before, pause });
            }
            last = at.unwrap_or(last);
            bytes += message.delivery.data.len();
            due.push(message);
        }
        let pause = (self.delay / LOOKS).clamp(LOOK_MIN, LOOK_MAX);
        Ok(Look { due, before, pause })
    }

    async fn count(&self) -> Result<u32, Error> {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let queue = self
            .channel
            .queue_declare(self.name.as_str().into(), options, FieldTable::default());
        Ok(within(queue).await?.message_count())
    }

    async fn get(&self) -> Result<Option<BasicGetMessage>, Error> {
        let options = BasicGetOptions { no_ack: false };
        within(self.channel.basic_get(self.name.as_str().into(), options)).await
    }

    async fn give_back(&self, tag: u64) -> Result<(), Error> {
        let options = BasicNackOptions {
            requeue: true,
            multiple: false,
        };
        within(self.channel.basic_nack(tag, options)).await.map(drop)
    }

    async fn done(&self, tag: u64) -> Result<(), Error> {
        within(self.channel.basic_ack(tag, BasicAckOptions::default()))
            .await
            .map(drop)
    }
}
