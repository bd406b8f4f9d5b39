//! Publishing with confirms: a message counts once the broker has it safe, and in a queue.
//!
//! A call has a channel to itself, so that what the broker answers is about its messages and nobody else's. A call
//! that gives up takes back what can still be taken back: see [`call`].

mod call;

use std::{borrow::Cow, future::Future, time::Duration};

use futures::future;
use lapin::{BasicProperties, Channel, Confirmation, options::BasicPublishOptions};
use tokio::time::{Instant, timeout_at};

use self::call::Call;
use super::{Broker, Channels, Error as BrokerError, Purpose};
use crate::shares::Shares;

/// The reply code of an exchange that is not there.
const NOT_FOUND: u16 = 404;
/// One destination has this part of the calls at once, at most.
const SHARE: usize = 4;
/// How long what was sent before an alarm may still be confirmed. The broker confirms what it has taken within
/// milliseconds; what it has not is not read before the alarm's end.
const ALARM_GRACE: Duration = Duration::from_millis(500);

/// Why messages could not be published.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker failed, or takes no messages.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// There is no such queue or exchange.
    #[error("there is no queue {0}")]
    Unroutable(String),
    /// The broker did not take responsibility for a message: its queue is full, or has failed.
    #[error("RabbitMQ refused the message")]
    Refused,
}

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Empty for the default one, which knows every queue by its name.
    pub exchange: String,
    /// The routing key.
    pub key: String,
}

impl Route {
    /// Straight to a queue.
    pub fn queue(name: String) -> Self {
        Self {
            exchange: String::new(),
            key: name,
        }
    }

    fn missing(&self) -> Error {
        let name = if self.exchange.is_empty() {
            &self.key
        } else {
            &self.exchange
        };
        Error::Unroutable(name.clone())
    }
}

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// The body.
    pub body: Cow<'a, [u8]>,
    /// The properties.
    pub properties: BasicProperties,
}

/// Publishes; a handle.
#[derive(Clone, Debug)]
pub struct Publisher {
    channels: Channels,
    /// By routing key.
    shares: Shares<String>,
    /// How long a call may take. Without it a call waits for the broker's word for as long as the connection lasts.
    patience: Option<Duration>,
}

impl Publisher {
    /// For no more than `calls_max` calls at once, a quarter of them to one destination, `patience` long each.
    pub fn new(broker: Broker, calls_max: usize, patience: Option<Duration>) -> Self {
        Self {
            channels: Channels::new(broker, Purpose::Publishing, calls_max),
            shares: Shares::new(calls_max.div_ceil(SHARE)),
            patience,
        }
    }

    /// Publishes messages in their order, and returns once the broker has confirmed every one. After an error some
    /// may have been taken, but none is taken afterwards, as far as the broker lets that be known.
    pub async fn publish(&self, route: &Route, messages: Vec<Message<'_>>) -> Result<(), Error> {
        let until = self.patience.map(|patience| Instant::now() + patience);
        // What cannot be sent is not waited for.
        self.channels.ready()?;
        let _share = before(until, self.shares.take(&route.key)).await?;
        let call = Call::of(before(until, self.channels.take()).await??);
        let sending = before(until, send(call.channel(), route, messages));
        let alarm = async {
            call.link().blocks().await;
            tokio::time::sleep(ALARM_GRACE).await;
        };
        let sent = tokio::select! {
            biased;
            sent = sending => sent,
            () = alarm, if until.is_some() => Err(BrokerError::Blocked),
        };
        match sent {
            Ok(Err(Error::Broker(error))) => {
                // The connection may have gone for another call's sake.
                let blocked = call.link().blocked();
                call.give_up().await;
                Err(if blocked { BrokerError::Blocked } else { error }.into())
            }
            // All of it is answered, if only by a refusal. (A channel that was closed for it is no use to anybody, and is
            // forgotten.)
            Ok(answered) => {
                call.done();
                answered
            }
            Err(error) => {
                call.give_up().await;
                Err(error.into())
            }
        }
    }
}

/// Awaits something for no longer than a call may take.
async fn before<T>(until: Option<Instant>, work: impl Future<Output = T>) -> Result<T, BrokerError> {
    match until {
        Some(until) => timeout_at(until, work).await.map_err(|_| BrokerError::Timeout),
        None => Ok(work.await),
    }
}

async fn send(channel: &Channel, route: &Route, messages: Vec<Message<'_>>) -> Result<(), Error> {
    // `mandatory`: what has no queue comes back, instead of being dropped.
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let mut confirms = Vec::with_capacity(messages.len());
    let mut failed = None;
    for message in messages {
        let publish = channel.basic_publish(
            route.exchange.as_str().into(),
            route.key.as_str().into(),
            options,
            &message.body,
            message.properties,
        );
        match publish.await {
            Ok(confirm) => confirms.push(confirm),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    let mut answer = Ok(());
    // All of them, so that a channel which goes on to the next call has nothing open. Which of its messages an answer
    // is for does not matter here: they all go the same way.
    for confirm in future::join_all(confirms).await {
        match confirm {
            Ok(Confirmation::Ack(None)) => {}
            Ok(Confirmation::Ack(Some(_)) | Confirmation::Nack(Some(_))) => answer = Err(route.missing()),
            Ok(Confirmation::Nack(None) | Confirmation::NotRequested) => {
                answer = answer.and(Err(Error::Refused))
            }
            // What the broker objected to; the publishing only found its channel closed.
            Err(error) => failed = Some(error),
        }
    }
    match failed.map(BrokerError::from) {
        Some(error) if error.reply_code() == Some(NOT_FOUND) => Err(route.missing()),
        Some(error) => Err(error.into()),
        None => answer,
    }
}
