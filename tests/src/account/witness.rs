//! What the services themselves make anybody wait: a confirmed message and a commit, over and over, beside the load.
//!
//! Several tests share a machine's disk. What their fsyncs cost is no tenant's doing, and is not held against one.

use std::time::Duration;

use lapin::{
    Channel, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Between two of a kind.
const PAUSE: Duration = Duration::from_millis(50);
/// What takes no longer than this, its pause with it, is no standstill.
const SLOW: Duration = Duration::from_millis(200);

/// From when until when.
type Span = (Instant, Instant);

/// A witness at work.
#[derive(Debug)]
pub(super) struct Witness {
    broker: JoinHandle<Vec<Span>>,
    database: JoinHandle<Vec<Span>>,
}

impl Witness {
    /// Looks on until `stop`.
    pub(super) fn start(amqp_url: &str, database: &PgPool, stop: &CancellationToken) -> Self {
        Self {
            broker: tokio::spawn(confirms(amqp_url.to_owned(), stop.clone())),
            database: tokio::spawn(commits(database.clone(), stop.clone())),
        }
    }

    /// What it saw, once it was stopped.
    pub(super) async fn finish(self) -> anyhow::Result<Standstills> {
        let mut spans = self.broker.await?;
        spans.extend(self.database.await?);
        Ok(Standstills::new(spans))
    }
}

/// Notes what was slow, step by step.
struct Steps {
    last: Instant,
    slow: Vec<Span>,
}

impl Steps {
    fn begin() -> Self {
        Self {
            last: Instant::now(),
            slow: Vec::new(),
        }
    }

    /// One more is done. What fails proves nothing.
    fn done(&mut self, worked: bool) {
        let now = Instant::now();
        if worked && now - self.last > SLOW {
            self.slow.push((self.last, now));
        }
        self.last = now;
    }
}

/// Publishes over and over.
async fn confirms(url: String, stop: CancellationToken) -> Vec<Span> {
    let (mut steps, mut queue) = (Steps::begin(), None);
    loop {
        sleep(PAUSE).await;
        match stop.run_until_cancelled(confirm(&url, &mut queue)).await {
            Some(worked) => steps.done(worked.is_some()),
            None => return steps.slow,
        }
    }
}

/// Commits over and over, in a session of its own: others wait for a pool's.
async fn commits(database: PgPool, stop: CancellationToken) -> Vec<Span> {
    let (mut steps, mut session) = (Steps::begin(), None);
    loop {
        sleep(PAUSE).await;
        match stop.run_until_cancelled(commit(&database, &mut session)).await {
            Some(worked) => steps.done(worked.is_some()),
            None => return steps.slow,
        }
    }
}

/// A persistent message into a queue of its own, confirmed.
async fn confirm(url: &str, queue: &mut Option<(Connection, Channel, String)>) -> Option<()> {
    if queue.is_none() {
        *queue = declare(url).await.ok();
    }
    let (_, channel, name) = queue.as_ref()?;
    let properties = lapin::BasicProperties::default().with_delivery_mode(2);
    let options = BasicPublishOptions::default();
    let publish = async {
        let sent = channel.basic_publish("".into(), name.as_str().into(), options, b"1", properties);
        sent.await?.await
    };
    let confirmed = publish.await.ok();
    if confirmed.is_none() {
        *queue = None;
    }
    confirmed.map(|_| ())
}

async fn declare(url: &str) -> lapin::Result<(Connection, Channel, String)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let name = format!("witness_{}", Uuid::now_v7());
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), 1.into());
    channel
        .queue_declare(name.as_str().into(), options, arguments)
        .await?;
    Ok((connection, channel, name))
}

/// A commit that is flushed, and leaves nothing.
async fn commit(database: &PgPool, session: &mut Option<PgConnection>) -> Option<()> {
    if session.is_none() {
        *session = PgConnection::connect_with(&database.connect_options()).await.ok();
    }
    let emit = sqlx::query("select pg_logical_emit_message(true, 'witness', '')");
    let committed = emit.execute(session.as_mut()?).await.ok();
    if committed.is_none() {
        *session = None;
    }
    committed.map(|_| ())
}

/// When the services stood still: in order, and none overlaps another.
#[derive(Debug)]
pub(super) struct Standstills(Vec<Span>);

impl Standstills {
    fn new(mut spans: Vec<Span>) -> Self {
        spans.sort_unstable();
        let mut merged: Vec<Span> = Vec::new();
        for (start, end) in spans {
            match merged.last_mut() {
                Some((_, last)) if start <= *last => *last = end.max(*last),
                _ => merged.push((start, end)),
            }
        }
        Self(merged)
    }

    /// For how long between `from` and `to`.
    pub(super) fn within(&self, from: Instant, to: Instant) -> Duration {
        let part = |&(start, end): &Span| end.min(to).saturating_duration_since(start.max(from));
        self.0.iter().map(part).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_standstills_count_once_and_only_where_they_were() {
        let zero = Instant::now();
        let at = |ms: u64| zero + Duration::from_millis(ms);
        let spans = vec![
            (at(500), at(900)),
            (at(100), at(300)),
            (at(200), at(400)),
            (at(250), at(260)),
        ];
        let standstills = Standstills::new(spans);
        let within = |from, to| standstills.within(at(from), at(to)).as_millis();
        assert_eq!(within(0, 1_000), 700);
        assert_eq!(within(150, 600), 350);
        assert_eq!(within(400, 500), 0);
        assert_eq!(within(1_000, 2_000), 0);
    }
}
