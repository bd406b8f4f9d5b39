//! A steady load on tenants whose neighbours are in trouble, and the account of it at the end.
//!
//! Each tenant gets numbered messages at a steady rate, every other one without a `message_id`. What is stored is
//! looked at all the while, so the time that a message waits is what a reader would have seen, and no statement's
//! start.

mod broker;
mod witness;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::ensure;
use common::id::TenantId;
use futures::future::join_all;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;

use self::{broker::Broker, witness::Witness};
use crate::Stack;

/// How long one step may take before the connection is made anew.
const STEP: Duration = Duration::from_secs(5);
/// How often what is stored is looked at: a wait is known this well.
const LOOK: Duration = Duration::from_millis(25);
/// How long nothing more of what is missing may be stored until it is called lost.
const PATIENCE: Duration = Duration::from_secs(30);
/// A message: whose, and its number.
type Key = (TenantId, u64);

/// What was published: when, and whether the broker confirmed it.
type Sent = BTreeMap<Key, (Instant, bool)>;

/// What was stored: when it was seen first, and in how many rows.
type Stored = BTreeMap<Key, (Instant, u64)>;

/// A load that runs.
#[derive(Debug)]
pub struct Account {
    tenants: Vec<TenantId>,
    database: PgPool,
    amqp_url: String,
    management: Option<Url>,
    started: Arc<str>,
    publish: CancellationToken,
    publishing: JoinHandle<Sent>,
    watch: CancellationToken,
    watching: JoinHandle<Stored>,
    witness: Witness,
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// Messages that the broker confirmed.
    pub published: u64,
    /// Those of them that were not stored.
    pub lost: u64,
    /// Rows beyond the first of a message.
    pub doubled: u64,
    /// Deliveries of the tenants' queues that were repeated, as the broker counts them; 0 where it cannot be asked.
    pub redelivered: u64,
    /// Messages in the tenants' dead-letter queues.
    pub dead_lettered: u64,
    /// The longest that a stored message waited from its publishing until it was seen in the table, beyond what the
    /// services themselves made anybody wait.
    pub standstill: Duration,
    /// That of the message which waited longest: for how long the services stood still meanwhile.
    pub services: Duration,
}

impl Report {
    /// Fails unless nobody noticed anything, but for a message that may have waited for `wait`.
    #[track_caller]
    pub fn assert_undisturbed(&self, wait: Duration) {
        assert!(self.published > 0, "nothing was published: {self:?}");
        let disturbed = self.lost + self.doubled + self.redelivered + self.dead_lettered;
        assert!(
            disturbed == 0 && self.standstill <= wait,
            "neighbours noticed: {self:?}"
        );
    }
}

impl Account {
    /// Begins to publish `per_second` messages a second to each of `tenants`, and waits until each has stored one.
    pub async fn start(stack: &Stack, tenants: &[TenantId], per_second: u32) -> anyhow::Result<Self> {
        let started: Arc<str> = Uuid::now_v7().to_string().into();
        let (publish, watch) = (CancellationToken::new(), CancellationToken::new());
        let publisher = Publisher {
            url: stack.amqp_url().to_owned(),
            account: Arc::clone(&started),
            connection: None,
        };
        let every = Duration::from_secs(1) / per_second.max(1);
        let account = Self {
            publishing: tokio::spawn(publisher.run(tenants.to_vec(), every, publish.clone())),
            watching: tokio::spawn(look(
                stack.database().clone(),
                tenants.to_vec(),
                Arc::clone(&started),
                watch.clone(),
            )),
            witness: Witness::start(stack, &watch),
            tenants: tenants.to_vec(),
            database: stack.database().clone(),
            amqp_url: stack.amqp_url().to_owned(),
            management: stack
                .environment()
                .services()
                .management_url()
                .map(Url::parse)
                .transpose()?,
            started,
            publish,
            watch,
        };
        for &tenant in tenants {
            account.first(tenant).await?;
        }
        Ok(account)
    }

    async fn first(&self, tenant: TenantId) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while rows(&self.database, tenant, &self.started, 0).await?.is_empty() {
            ensure!(Instant::now() < deadline, "nothing of tenant {tenant} is stored");
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Ends the load, waits until everything is stored, or nothing more is, and adds it up.
    pub async fn finish(self) -> anyhow::Result<Report> {
        self.publish.cancel();
        let sent = self.publishing.await?;
        let confirmed: Vec<Key> = sent
            .iter()
            .filter(|(_, (_, confirmed))| *confirmed)
            .map(|(key, _)| *key)
            .collect();
        let (mut known, mut since) = (0, Instant::now());
        loop {
            let mut missing = 0;
            for &tenant in &self.tenants {
                let stored: BTreeMap<u64, i64> = rows(&self.database, tenant, &self.started, 0)
                    .await
                    .unwrap_or_default()
                    .into_iter()
                    .collect();
                let wanted = confirmed.iter().filter(|(of, _)| *of == tenant);
                missing += wanted.filter(|(_, number)| !stored.contains_key(number)).count();
            }
            if missing != known {
                (known, since) = (missing, Instant::now());
            }
            if missing == 0 || since.elapsed() > PATIENCE {
                break;
            }
            sleep(LOOK).await;
        }
        // A doubled row may come a little later than the first.
        sleep(LOOK * 4).await;
        self.watch.cancel();
        let stored = self.watching.await?;
        let services = self.witness.finish().await?;
        let waited = |(key, (seen, _)): (&Key, &(Instant, u64))| {
            let at = sent.get(key)?.0;
            let services = services.within(at, *seen);
            Some((
                seen.saturating_duration_since(at).saturating_sub(services),
                services,
            ))
        };
        let (standstill, services) = stored.iter().filter_map(waited).max().unwrap_or_default();
        let broker = Broker {
            tenants: &self.tenants,
            amqp_url: &self.amqp_url,
            management: self.management.as_ref(),
        };
        Ok(Report {
            published: confirmed.len() as u64,
            lost: confirmed.iter().filter(|key| !stored.contains_key(key)).count() as u64,
            doubled: stored.values().map(|(_, rows)| rows - 1).sum(),
            redelivered: broker.redelivered(&stored).await?,
            dead_lettered: broker.dead_lettered().await?,
            standstill,
            services,
        })
    }
}

/// Publishes to each tenant on a channel of its own, one message at a time: what comes back belongs to it.
struct Publisher {
    url: String,
    account: Arc<str>,
    connection: Option<(Connection, BTreeMap<TenantId, Channel>)>,
}

impl Publisher {
    async fn run(mut self, tenants: Vec<TenantId>, every: Duration, stop: CancellationToken) -> Sent {
        let mut sent = Sent::new();
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        for number in 0.. {
            if stop.run_until_cancelled(ticks.tick()).await.is_none() {
                break;
            }
            if self.connection.is_none() {
                self.connection = timeout(STEP, connect(&self.url, &tenants))
                    .await
                    .ok()
                    .and_then(Result::ok);
            }
            let Some((_, channels)) = &self.connection else {
                continue;
            };
            let at = Instant::now();
            let one = async |(&tenant, channel): (&TenantId, &Channel)| {
                let confirmed = timeout(STEP, publish(channel, tenant, &self.account, number)).await;
                (tenant, matches!(confirmed, Ok(Ok(true))))
            };
            let results = join_all(channels.iter().map(one)).await;
            if results.iter().any(|(_, confirmed)| !confirmed) {
                self.connection = None;
            }
            sent.extend(
                results
                    .into_iter()
                    .map(|(tenant, confirmed)| ((tenant, number), (at, confirmed))),
            );
        }
        sent
    }
}

async fn connect(
    url: &str,
    tenants: &[TenantId],
) -> lapin::Result<(Connection, BTreeMap<TenantId, Channel>)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let mut channels = BTreeMap::new();
    for &tenant in tenants {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        channels.insert(tenant, channel);
    }
    Ok((connection, channels))
}

/// Answers whether the broker took it.
async fn publish(channel: &Channel, tenant: TenantId, account: &str, number: u64) -> lapin::Result<bool> {
    let mut properties = BasicProperties::default().with_delivery_mode(2);
    if number.is_multiple_of(2) {
        properties = properties.with_message_id(Uuid::now_v7().to_string().into());
    }
    let at = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let body = json!({ "account": account, "number": number, "at_ms": at.as_millis() as u64 }).to_string();
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let confirm = channel
        .basic_publish(
            "".into(),
            tenant.queue().into(),
            options,
            body.as_bytes(),
            properties,
        )
        .await?
        .await?;
    Ok(confirm.is_ack() && confirm.take_message().is_none())
}

/// Looks at the tables until `stop`. What cannot be read now is read later.
async fn look(
    database: PgPool,
    tenants: Vec<TenantId>,
    account: Arc<str>,
    stop: CancellationToken,
) -> Stored {
    let mut stored = Stored::new();
    let mut last: BTreeMap<TenantId, i64> = tenants.into_iter().map(|tenant| (tenant, 0)).collect();
    loop {
        for (&tenant, last) in &mut last {
            for (number, position) in rows(&database, tenant, &account, *last).await.unwrap_or_default() {
                let entry = stored
                    .entry((tenant, number))
                    .or_insert_with(|| (Instant::now(), 0));
                entry.1 += 1;
                *last = position;
            }
        }
        // After a last look.
        if stop.is_cancelled() {
            return stored;
        }
        let _ = stop.run_until_cancelled(sleep(LOOK)).await;
    }
}

/// An account's rows after a position: number and position. By the leaf: a neighbour's may be locked.
async fn rows(
    database: &PgPool,
    tenant: TenantId,
    account: &str,
    after: i64,
) -> Result<Vec<(u64, i64)>, sqlx::Error> {
    let sql = format!(
        "select (payload->>'number')::bigint, position from {}
         where position > $1 and payload->>'account' = $2 order by position",
        tenant.partition()
    );
    let rows: Vec<(i64, i64)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(after)
        .bind(account)
        .fetch_all(database)
        .await?;
    Ok(rows
        .into_iter()
        .map(|(number, position)| (number.unsigned_abs(), position))
        .collect())
}
