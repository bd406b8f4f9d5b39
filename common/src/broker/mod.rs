//! A RabbitMQ connection that is kept up.
//!
//! [`connect`] gives a [`Broker`] handle and a [`Supervisor`], whose `run` owns the connection: it connects, watches,
//! and connects again with a jittered backoff. Users take the current [`Link`], open channels on it, and learn from
//! [`Link::lost`] that everything on it is gone.

mod channels;
pub mod headers;
pub mod publisher;
mod supervisor;
mod wall;

use std::{future::Future, sync::Arc, time::Duration};

use lapin::{
    Channel,
    uri::{AMQPScheme, AMQPUri},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::{
    channels::{Channels, Lease, Purpose},
    publisher::Publisher,
    supervisor::Supervisor,
    wall::{Account, Claim, Held, Meter, Verdict, Wall},
};
use crate::config::{self, Secret};

/// How long one request to the broker may take. It answers in milliseconds; a queue's declaration on a loaded
/// cluster may take a second or two.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the broker could not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no connection at the moment.
    #[error("RabbitMQ cannot be reached")]
    Down,
    /// It did not answer within [`REQUEST_TIMEOUT`].
    #[error("RabbitMQ did not answer within {} s", REQUEST_TIMEOUT.as_secs())]
    Timeout,
    /// It has a memory or disk alarm.
    #[error("RabbitMQ takes no messages at the moment: it is short of memory or disk")]
    Blocked,
    /// It answered with an error, or the connection broke.
    #[error("RabbitMQ: {0}")]
    Broker(#[from] lapin::Error),
}

impl Error {
    /// The reply code of an AMQP error, such as 404 for a queue that is not there.
    pub fn reply_code(&self) -> Option<u16> {
        match self {
            Self::Broker(error) => match error.kind() {
                lapin::ErrorKind::ProtocolError(error) => Some(error.get_id()),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether it is an answer to what was asked, for which the broker closes a channel, and no failure of its own.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Broker(error) if error.is_amqp_soft_error())
    }
}

/// Why there is no connection at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Away {
    /// The broker went, or has not been there yet.
    Down,
    /// It takes no messages, and the connection was cut for that: what the broker had not read of it is read never.
    Blocked,
}

impl From<Away> for Error {
    fn from(away: Away) -> Self {
        match away {
            Away::Down => Self::Down,
            Away::Blocked => Self::Blocked,
        }
    }
}

/// One connection, for as long as it lasts.
#[derive(Debug)]
pub struct Link {
    connection: lapin::Connection,
    wall: Wall,
    given_up: CancellationToken,
    lost: CancellationToken,
    /// As the broker last said.
    blocked: watch::Sender<bool>,
}

impl Link {
    /// Opens a channel.
    pub async fn channel(&self) -> Result<Channel, Error> {
        within(self.connection.create_channel()).await
    }

    /// What is known of the deliveries that come on this connection, beside what they say themselves.
    pub fn wall(&self) -> &Wall {
        &self.wall
    }

    /// Asks for another connection: on this one the broker does not do what it is asked.
    pub fn give_up(&self) {
        self.given_up.cancel();
    }

    /// Completes when the connection is gone, and with it every channel and unacknowledged delivery.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Completes with the reason why there is no use in waiting for it, when it is gone.
    async fn gone(&self) -> Away {
        self.lost().await;
        self.away()
    }

    fn away(&self) -> Away {
        if self.blocked() { Away::Blocked } else { Away::Down }
    }

    /// Whether the broker has stopped reading what this connection sends (memory or disk alarm).
    pub fn blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Completes when the broker has stopped reading what this connection sends.
    pub async fn blocks(&self) {
        let mut blocked = self.blocked.subscribe();
        // The sender is in this very link.
        let _ = blocked.wait_for(|blocked| *blocked).await;
    }
}

/// A handle on a connection that is kept up.
#[derive(Clone, Debug)]
pub struct Broker {
    link: watch::Receiver<Result<Arc<Link>, Away>>,
}

impl Broker {
    /// The current connection, waiting for one at most [`REQUEST_TIMEOUT`].
    pub async fn link(&self) -> Result<Arc<Link>, Error> {
        let mut link = self.link.clone();
        let up = link.wait_for(Result::is_ok);
        match tokio::time::timeout(REQUEST_TIMEOUT, up).await {
            Ok(Ok(link)) => Ok(link.clone()?),
            Ok(Err(_)) | Err(_) => Err(Error::Down),
        }
    }

    /// The current connection, without waiting for one.
    pub fn current(&self) -> Result<Arc<Link>, Error> {
        Ok(self.link.borrow().clone()?)
    }

    /// Whether there is a connection at the moment.
    pub fn is_up(&self) -> bool {
        self.link.borrow().is_ok()
    }
}

/// Prepares a connection to `url`, shown in RabbitMQ's management as `name`. Nothing happens until the supervisor
/// runs.
pub fn connect(url: &Secret, name: &str) -> Result<(Broker, Supervisor), config::Error> {
    connect_metered(url, name, Meter::default())
}

/// The same, for a connection whose consumers' deliveries are counted by `meter`, and deferred when there is no room.
pub fn connect_metered(
    url: &Secret,
    name: &str,
    meter: Meter,
) -> Result<(Broker, Supervisor), config::Error> {
    let uri = parse(url)?;
    if uri.scheme == AMQPScheme::AMQPS {
        return Err(config::Error::key(
            "rabbitmq.url",
            "amqps:// is not spoken yet, and nothing of it is said in clear; use amqp:// on a network that you trust",
        ));
    }
    let (sender, link) = watch::channel(Err(Away::Down));
    Ok((
        Broker { link },
        Supervisor::new(uri, name.to_owned(), meter, sender),
    ))
}

/// Reads an AMQP URL as users mean it: without a vhost, or with the bare slash that ends a host, it is the default
/// one, `/`. (The URI specification has the bare slash name the vhost with the empty name, which nobody has.)
pub fn parse(url: &Secret) -> Result<AMQPUri, config::Error> {
    let mut uri: AMQPUri = url
        .expose()
        .parse()
        .map_err(|error: String| config::Error::key("rabbitmq.url", error))?;
    if uri.vhost.is_empty() {
        uri.vhost = "/".into();
    }
    Ok(uri)
}

/// Awaits one request to the broker, for [`REQUEST_TIMEOUT`] at most.
pub async fn within<T>(request: impl Future<Output = lapin::Result<T>>) -> Result<T, Error> {
    tokio::time::timeout(REQUEST_TIMEOUT, request)
        .await
        .map_err(|_| Error::Timeout)?
        .map_err(Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_slash_is_the_default_vhost() {
        let vhost = |url: &str| parse(&Secret::from(url)).unwrap().vhost;
        assert_eq!(vhost("amqp://u:p@localhost:5672/"), "/");
        assert_eq!(vhost("amqp://u:p@localhost:5672"), "/");
        assert_eq!(vhost("amqp://u:p@localhost:5672/%2f"), "/");
        assert_eq!(vhost("amqp://u:p@localhost:5672/mine"), "mine");
        assert!(parse(&Secret::from("nonsense")).is_err());
    }
}
