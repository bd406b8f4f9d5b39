//! A RabbitMQ connection that is kept up.
//!
//! [`connect`] gives a [`Broker`] handle and a [`Supervisor`], whose `run` owns the connection: it connects, watches,
//! and connects again with a jittered backoff. Users take the current [`Link`], open channels on it, and learn from
//! [`Link::lost`] that everything on it is gone. A connection on which much was refused is replaced by another, and lasts
//! as long as somebody uses it.

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
use crate::{
    config::{self, Secret},
    tls,
};

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
        loop {
            match within(self.connection.create_channel()).await {
                // What an earlier channel with this number was closed for (lapin 4.12). Each number does that once.
                Err(error) if error.is_refusal() => {}
                opened => return opened,
            }
        }
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

    /// Whether it is gone.
    pub fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
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

/// Whether this is the current connection.
fn is(current: &Result<Arc<Link>, Away>, link: &Arc<Link>) -> bool {
    current.as_ref().is_ok_and(|current| Arc::ptr_eq(current, link))
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

    /// Completes when this is not the current connection any more: it is lost, or another one has taken its place, which
    /// is for whatever begins from then on.
    pub async fn left(&self, link: &Arc<Link>) {
        let another = |current: &Result<Arc<Link>, Away>| !is(current, link);
        // A supervisor that has ended has lost it.
        let _ = self.link.clone().wait_for(another).await;
    }

    /// Whether there is a connection at the moment.
    pub fn is_up(&self) -> bool {
        self.link.borrow().is_ok()
    }
}

/// Prepares a connection, shown in RabbitMQ's management as `name`. Nothing happens until the supervisor runs.
pub fn connect(config: &config::Rabbitmq, name: &str) -> Result<(Broker, Supervisor), config::Error> {
    connect_metered(config, name, Meter::default())
}

/// The same, for a connection whose consumers' deliveries are counted by `meter`, and deferred when there is no room.
pub fn connect_metered(
    config: &config::Rabbitmq,
    name: &str,
    meter: Meter,
) -> Result<(Broker, Supervisor), config::Error> {
    let uri = parse(&config.url)?;
    let tls = tls::Client::new("rabbitmq.tls", &config.tls)?;
    let (sender, link) = watch::channel(Err(Away::Down));
    Ok((
        Broker { link },
        Supervisor::new(uri, tls, name.to_owned(), meter, sender),
    ))
}

/// Checks what a configuration says of RabbitMQ. In clear it is only spoken to on this machine, unless `insecure`.
pub fn check(config: &config::Rabbitmq, insecure: bool) -> Result<(), config::Error> {
    config::validate_url("rabbitmq.url", &config.url, &["amqp", "amqps"])?;
    let uri = parse(&config.url)?;
    tls::Client::new("rabbitmq.tls", &config.tls)?;
    match uri.scheme {
        AMQPScheme::AMQP if !insecure => {
            config::check_clear("rabbitmq.url", &uri.authority.host, "use amqps://")
        }
        _ => Ok(()),
    }
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
    use tokio::{io::AsyncReadExt as _, net::TcpListener};

    use super::*;

    #[tokio::test]
    async fn a_url_that_says_tls_never_speaks_in_clear() {
        for (scheme, first) in [("amqp", b'A'), ("amqps", 0x16)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let config = config::Rabbitmq {
                url: format!("{scheme}://u:p@{}", listener.local_addr().unwrap()).into(),
                ..config::Rabbitmq::default()
            };
            let (_broker, supervisor) = connect(&config, "test").unwrap();
            let stop = CancellationToken::new();
            let running = tokio::spawn(supervisor.run(stop.clone()));
            let (mut stream, _) = listener.accept().await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), first, "{scheme}");
            stop.cancel();
            drop(stream);
            running.await.unwrap();
        }
    }

    #[test]
    fn other_machines_are_spoken_to_in_clear_only_where_that_is_said() {
        let check = |url: &str, insecure| {
            let config = config::Rabbitmq {
                url: url.into(),
                ..config::Rabbitmq::default()
            };
            super::check(&config, insecure).map_err(|error| error.to_string())
        };
        for url in ["amqp://u:p@localhost", "amqp://u:p@[::1]:1", "amqps://u:p@rabbit"] {
            check(url, false).unwrap();
        }
        let error = check("amqp://u:p@rabbit", false).unwrap_err();
        assert!(
            error.contains("rabbitmq.url") && error.contains("amqps://"),
            "{error}"
        );
        check("amqp://u:p@rabbit", true).unwrap();
    }

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
