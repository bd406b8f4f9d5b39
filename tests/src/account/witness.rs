//! What the services themselves make anybody wait: a confirmed message and a commit, over and over, beside the load.
//!
//! Several tests share a machine's disk. What their fsyncs cost is no tenant's doing, and is not held against one.

use std::time::Duration;

use anyhow::Context as _;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::stack::Stack;

/// Between two of a kind.
const PAUSE: Duration = Duration::from_millis(50);
/// What takes no longer than this, its pause with it, is no standstill.
const SLOW: Duration = Duration::from_millis(200);

/// What takes longer has failed: nothing of a test is waited for as long.
const LONGEST: Duration = Duration::from_secs(60);

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
    pub(super) fn start(stack: &Stack, stop: &CancellationToken) -> Self {
        let confirms = Confirms {
            url: stack.amqp_url().to_owned(),
            queue_type: stack.queue_type().to_owned(),
            queue: None,
        };
        let commits = Commits {
            database: stack.database().clone(),
            session: None,
        };
        Self {
            broker: tokio::spawn(slow_steps(confirms, stop.clone())),
            database: tokio::spawn(slow_steps(commits, stop.clone())),
        }
    }

    /// What it saw, once it was stopped.
    pub(super) async fn finish(self) -> anyhow::Result<Standstills> {
        let mut spans = self.broker.await?;
        spans.extend(self.database.await?);
        Ok(Standstills::new(spans))
    }
}

/// Something that a service is asked over and over.
trait Step: Send {
    /// Once. What it needs for that is made anew after a failure.
    fn step(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// After a failure.
    fn forget(&mut self);
}

/// When a step was slow, its pause with it. What fails or takes longer than anybody waits proves nothing.
async fn slow_steps(mut steps: impl Step, stop: CancellationToken) -> Vec<Span> {
    let (mut slow, mut last) = (Vec::new(), Instant::now());
    loop {
        sleep(PAUSE).await;
        let Some(step) = stop.run_until_cancelled(timeout(LONGEST, steps.step())).await else {
            return slow;
        };
        let now = Instant::now();
        match step {
            Ok(Ok(())) if now - last > SLOW => slow.push((last, now)),
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => steps.forget(),
        }
        last = now;
    }
}

/// A persistent message into a queue of its own, of the tenants' kind, confirmed.
struct Confirms {
    url: String,
    queue_type: String,
    queue: Option<(Connection, Channel, String)>,
}

impl Step for Confirms {
    async fn step(&mut self) -> anyhow::Result<()> {
        if self.queue.is_none() {
            self.queue = Some(declare(&self.url, &self.queue_type).await?);
        }
        let (_, channel, name) = self.queue.as_ref().context("it was just made")?;
        let properties = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish("".into(), name.as_str().into(), options, b"1", properties);
        sent.await?.await?;
        Ok(())
    }

    fn forget(&mut self) {
        self.queue = None;
    }
}

async fn declare(url: &str, queue_type: &str) -> lapin::Result<(Connection, Channel, String)> {
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
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(queue_type.into()));
    channel
        .queue_declare(name.as_str().into(), options, arguments)
        .await?;
    Ok((connection, channel, name))
}

/// A commit that is flushed and leaves nothing, in a session of its own: others wait for a pool's.
struct Commits {
    database: PgPool,
    session: Option<PgConnection>,
}

impl Step for Commits {
    async fn step(&mut self) -> anyhow::Result<()> {
        if self.session.is_none() {
            let options = self.database.connect_options();
            self.session = Some(PgConnection::connect_with(&options).await?);
        }
        let session = self.session.as_mut().context("it was just made")?;
        sqlx::query("select pg_logical_emit_message(true, 'witness', '')")
            .execute(session)
            .await?;
        Ok(())
    }

    fn forget(&mut self) {
        self.session = None;
    }
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
