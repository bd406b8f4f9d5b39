//! The task that keeps a connection up.

use std::{sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures::StreamExt as _;
use lapin::{Connection, ConnectionProperties, uri::AMQPUri};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Away, Link, Meter, REQUEST_TIMEOUT, Wall, within};
use crate::tls;

/// A hung program's deliveries come free after two to three of these without a word: 2 to 3 s, before its tenants have
/// moved, so that another daemon finds them in the queue. (With 2 s it was 6 s until they were stored, with 3 s 9 s.) A
/// network that is silent for longer costs a reconnection and some redeliveries; `?heartbeat=` in the URL is for those.
const HEARTBEAT_SECONDS: u16 = 1;
/// Events name most losses at once; this finds the rest.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// Owns a connection. Nothing is connected unless it runs.
#[derive(Debug)]
pub struct Supervisor {
    uri: AMQPUri,
    tls: tls::Client,
    name: String,
    meter: Meter,
    link: watch::Sender<Result<Arc<Link>, Away>>,
}

impl Supervisor {
    pub(super) fn new(
        mut uri: AMQPUri,
        tls: tls::Client,
        name: String,
        meter: Meter,
        link: watch::Sender<Result<Arc<Link>, Away>>,
    ) -> Self {
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        Self {
            uri,
            tls,
            name,
            meter,
            link,
        }
    }

    /// Keeps the connection up until `stop`, then closes it.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let Some((connection, wall)) = stop.run_until_cancelled(self.connected()).await else {
                return;
            };
            info!(connection = self.name, "connected to RabbitMQ");
            let mut events = connection.events_listener().boxed();
            let link = Arc::new(Link {
                connection,
                wall,
                given_up: CancellationToken::new(),
                lost: CancellationToken::new(),
                blocked: watch::Sender::new(false),
            });
            self.now(Ok(Arc::clone(&link)));

            while link.connection.status().connected() {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = link.given_up.cancelled() => break,
                    event = events.next() => match event {
                        // A channel's error is its user's business, who asked for what was refused.
                        Some(lapin::Event::Error(error)) if error.is_amqp_soft_error() => {
                            debug!(connection = self.name, %error, "RabbitMQ closed a channel");
                        }
                        Some(lapin::Event::Error(error)) => warn!(connection = self.name, %error, "RabbitMQ reported an error"),
                        Some(lapin::Event::ConnectionBlocked(reason)) => {
                            link.blocked.send_replace(true);
                            warn!(connection = self.name, reason, "RabbitMQ blocks publishing");
                        }
                        Some(lapin::Event::ConnectionUnblocked) => {
                            link.blocked.send_replace(false);
                            info!(connection = self.name, "RabbitMQ takes messages again");
                        }
                        _ => {}
                    },
                    () = tokio::time::sleep(CHECK_EVERY) => {}
                }
            }

            self.now(Err(link.away()));
            link.lost.cancel();
            if !stop.is_cancelled() {
                warn!(connection = self.name, "lost the connection to RabbitMQ");
            }
            if link.connection.status().connected() {
                // What was given up, or is not read, cannot be closed in good order.
                let cut = link.given_up.is_cancelled() || link.blocked();
                if cut
                    || within(link.connection.close(200, "stopping".into()))
                        .await
                        .is_err()
                {
                    link.wall.cut();
                }
            }
        }
    }

    /// Tells everybody that has a handle.
    fn now(&self, link: Result<Arc<Link>, Away>) {
        // What was before is nobody's business any more.
        drop(self.link.send_replace(link));
    }

    async fn connected(&self) -> (Connection, Wall) {
        let mut backoff = backoff();
        let mut said = false;
        loop {
            let properties = ConnectionProperties::default().with_connection_name(self.name.as_str().into());
            let wall = Wall::new(self.meter.clone());
            let attempt = wall.connect(self.uri.clone(), &self.tls, properties);
            match tokio::time::timeout(REQUEST_TIMEOUT, attempt).await {
                Ok(Ok(connection)) => return (connection, wall),
                // One line an outage, not one an attempt.
                Ok(Err(error)) if !said => {
                    warn!(connection = self.name, %error, "cannot connect to RabbitMQ; retrying")
                }
                Err(_) if !said => warn!(connection = self.name, "RabbitMQ does not answer; retrying"),
                Ok(Err(_)) | Err(_) => {}
            }
            said = true;
            self.now(Err(Away::Down));
            let pause = match backoff.next() {
                Some(pause) => pause,
                None => continue,
            };
            tokio::time::sleep(pause).await;
        }
    }
}

/// 50 ms, doubling to 2 s, jittered, for ever: the broker is back in service within seconds of its own return.
fn backoff() -> backon::ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(2))
        .with_jitter()
        .without_max_times()
        .build()
}
