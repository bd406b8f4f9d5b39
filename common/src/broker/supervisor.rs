//! The task that keeps a connection up.
//!
//! A connection has 2,047 channels, and one that the broker closes takes its number with it (lapin 4.12 never opens another
//! with it: it answers with the error of the first). So where half of them are gone another connection takes the place of
//! the first. That one stays as long as somebody has it, for what began on it: lanes consume on for days.

use std::{pin::pin, sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures::{
    StreamExt as _,
    stream::{BoxStream, FuturesUnordered},
};
use lapin::{Connection, ConnectionProperties, Event, uri::AMQPUri};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Away, Link, Meter, REQUEST_TIMEOUT, Wall, is, within};
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
        let mut guards = FuturesUnordered::new();
        while !stop.is_cancelled() {
            let connected = stop.run_until_cancelled(self.connected());
            let Some((connection, wall)) = beside(&mut guards, connected).await else {
                break;
            };
            info!(connection = self.name, "connected to RabbitMQ");
            // Before anybody has it: what is told from then on is heard.
            let events = connection.events_listener().boxed();
            let link = Arc::new(Link {
                connection,
                wall,
                given_up: CancellationToken::new(),
                lost: CancellationToken::new(),
                blocked: watch::Sender::new(false),
            });
            // What was before is nobody's business any more, but for those who use it.
            drop(self.link.send_replace(Ok(Arc::clone(&link))));
            let done = CancellationToken::new();
            guards.push(self.guard(link, events, done.clone(), &stop));
            beside(&mut guards, done.cancelled()).await;
        }
        while guards.next().await.is_some() {}
    }

    /// Watches a connection, as long as it lasts and somebody uses it, and closes it. It is `done` when another one is to
    /// be had.
    async fn guard(
        &self,
        link: Arc<Link>,
        mut events: BoxStream<'static, Event>,
        done: CancellationToken,
        stop: &CancellationToken,
    ) {
        let refused_max = usize::from(link.connection.configuration().channel_max() / 2);
        let mut refused = 0;
        while link.connection.status().connected() && !self.is_forgotten(&link) {
            tokio::select! {
                () = stop.cancelled() => break,
                () = link.given_up.cancelled() => break,
                event = events.next() => match event {
                    // A channel's error is its user's business, who asked for what was refused.
                    Some(Event::Error(error)) if error.is_amqp_soft_error() => {
                        debug!(connection = self.name, %error, "RabbitMQ closed a channel");
                        refused += 1;
                        if refused == refused_max {
                            info!(connection = self.name, refused, "much was refused on this connection; taking another");
                            done.cancel();
                        }
                    }
                    Some(Event::Error(error)) => warn!(connection = self.name, %error, "RabbitMQ reported an error"),
                    Some(Event::ConnectionBlocked(reason)) => {
                        link.blocked.send_replace(true);
                        warn!(connection = self.name, reason, "RabbitMQ blocks publishing");
                    }
                    Some(Event::ConnectionUnblocked) => {
                        link.blocked.send_replace(false);
                        info!(connection = self.name, "RabbitMQ takes messages again");
                    }
                    _ => {}
                },
                () = tokio::time::sleep(CHECK_EVERY) => {}
            }
        }

        let forgotten = self.is_forgotten(&link);
        // First who has a handle, then who has the connection.
        self.link.send_if_modified(|current| {
            let mine = is(current, &link);
            if mine {
                *current = Err(link.away());
            }
            mine
        });
        link.lost.cancel();
        done.cancel();
        if !stop.is_cancelled() && !forgotten {
            warn!(connection = self.name, "lost the connection to RabbitMQ");
        }
        if link.connection.status().connected() {
            // What was given up, or is not read, cannot be closed in good order.
            let cut = link.given_up.is_cancelled() || link.blocked();
            if cut || within(link.connection.close(200, "done".into())).await.is_err() {
                link.wall.cut();
            }
        }
    }

    /// Whether another connection has taken its place and nobody has it any more, but for its guard.
    fn is_forgotten(&self, link: &Arc<Link>) -> bool {
        Arc::strong_count(link) == 1 && !is(&self.link.borrow(), link)
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
            // Where there is one that is to be replaced, it does until then.
            self.link.send_if_modified(|current| {
                let blocked = matches!(current, Err(Away::Blocked));
                if blocked {
                    *current = Err(Away::Down);
                }
                blocked
            });
            let pause = match backoff.next() {
                Some(pause) => pause,
                None => continue,
            };
            tokio::time::sleep(pause).await;
        }
    }
}

/// Awaits something while connections are guarded.
async fn beside<T>(
    guards: &mut FuturesUnordered<impl Future<Output = ()>>,
    awaited: impl Future<Output = T>,
) -> T {
    let mut awaited = pin!(awaited);
    loop {
        tokio::select! {
            done = &mut awaited => return done,
            Some(()) = guards.next() => {}
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
