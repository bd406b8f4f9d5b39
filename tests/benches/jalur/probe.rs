//! Messages at a steady rate, and when each can be read.
//!
//! A thread of its own asks PostgreSQL for the tenants' counters over and over, with a pause of 0.2 ms. A counter moves
//! in the transaction that stores the rows below it, so the answer that first shows a position says that its row can be
//! read. That is late by one pause and one answer at most, about 0.5 ms, and never early; it is not subtracted.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use common::id::TenantId;
use futures::StreamExt as _;
use lapin::options::BasicPublishOptions;
use sqlx::{Connection as _, PgConnection};
use tests::load;
use uuid::Uuid;

use tests::bench::Series;

use crate::{fill, ground::Ground};

const PAUSE: Duration = Duration::from_micros(200);
/// What comes first warms caches and connections.
const WARM_UP: Duration = Duration::from_millis(500);
/// How long the last messages may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A steady stream.
pub(crate) struct Stream<'a> {
    /// In turn.
    pub(crate) tenants: &'a [TenantId],
    pub(crate) per_second: u32,
    pub(crate) during: Duration,
    pub(crate) bytes: usize,
}

/// When a tenant's counter was first seen at a position.
type Seen = HashMap<Uuid, Vec<(i64, Instant)>>;

/// What was measured.
pub(crate) struct Probed {
    /// How many seconds each message took, from just before it was published until it could be read.
    pub(crate) took: Series,
    /// When these were published.
    pub(crate) published: HashMap<Uuid, Instant>,
}

/// Sends, and answers how many seconds each message took.
pub(crate) async fn run(ground: &Ground, stream: &Stream<'_>) -> anyhow::Result<Series> {
    Ok(probe(ground, stream).await?.took)
}

/// The same with when each was published.
pub(crate) async fn probe(ground: &Ground, stream: &Stream<'_>) -> anyhow::Result<Probed> {
    let stop = Arc::new(AtomicBool::new(false));
    let ids: Vec<Uuid> = stream.tenants.iter().map(|tenant| tenant.0).collect();
    let watcher = {
        let (url, ids, stop) = (
            ground.stack.database_url().to_owned(),
            ids.clone(),
            Arc::clone(&stop),
        );
        thread::spawn(move || watch(&url, &ids, &stop))
    };
    let sent = send(ground, stream).await;
    if let Ok(sent) = &sent {
        wait(ground, &ids, sent.len()).await?;
    }
    stop.store(true, Ordering::Relaxed);
    let seen = tokio::task::spawn_blocking(move || watcher.join())
        .await?
        .map_err(|_| anyhow::anyhow!("the watcher panicked"))??;
    let sent = sent?;

    let mut rows = sqlx::query_as::<_, (Uuid, Uuid, i64)>(
        "select id, tenant_id, position from messages where tenant_id = any ($1)",
    )
    .bind(&ids)
    .fetch(ground.stack.database());
    let begin = *sent.values().min().context("nothing was sent")?;
    let mut took = Series::default();
    while let Some(row) = rows.next().await {
        let (id, tenant, position) = row?;
        let Some(published) = sent.get(&id) else { continue };
        let seen = seen.get(&tenant).context("a tenant was never seen")?;
        let first = seen.partition_point(|(last, _)| *last < position);
        let (_, at) = seen.get(first).context("a position was never seen")?;
        if *published - begin >= WARM_UP {
            took.push((*at - *published).as_secs_f64());
        }
    }
    let published = sent.into_iter();
    Ok(Probed {
        took,
        published: published.filter(|(_, at)| *at - begin >= WARM_UP).collect(),
    })
}

async fn send(ground: &Ground, stream: &Stream<'_>) -> anyhow::Result<HashMap<Uuid, Instant>> {
    let channel = ground.amqp.create_channel().await?;
    let count = stream.during.as_secs_f64() * f64::from(stream.per_second);
    let begin = Instant::now();
    let mut sent = HashMap::new();
    for number in 0..count as usize {
        // By the clock, not by pauses: a late one does not delay those after it.
        let due = begin + Duration::from_secs_f64(number as f64 / f64::from(stream.per_second));
        tokio::time::sleep_until(due.into()).await;
        let tenant = stream.tenants[number % stream.tenants.len()];
        let (id, body) = (Uuid::now_v7(), load::body(tenant, number, stream.bytes));
        sent.insert(id, Instant::now());
        let options = BasicPublishOptions::default();
        channel
            .basic_publish(
                "".into(),
                tenant.queue().into(),
                options,
                &body,
                fill::properties(id),
            )
            .await?;
    }
    channel.close(200, "sent".into()).await?;
    Ok(sent)
}

/// Waits until all are stored: everything that is sent to these tenants is this stream's.
async fn wait(ground: &Ground, ids: &[Uuid], sent: usize) -> anyhow::Result<()> {
    let since = Instant::now();
    loop {
        let rows: i64 = sqlx::query_scalar("select count(*) from messages where tenant_id = any ($1)")
            .bind(ids)
            .fetch_one(ground.stack.database())
            .await?;
        if usize::try_from(rows)? >= sent {
            return Ok(());
        }
        if since.elapsed() > PATIENCE {
            bail!("{rows} of {sent} messages were stored");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn watch(url: &str, ids: &[Uuid], stop: &AtomicBool) -> anyhow::Result<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut connection = runtime.block_on(PgConnection::connect(url))?;
    let mut seen = Seen::new();
    // All was stored before the stop, so one look after it sees everything.
    let mut last = false;
    while !std::mem::replace(&mut last, stop.load(Ordering::Relaxed)) {
        let rows: Vec<(Uuid, i64)> = runtime.block_on(
            sqlx::query_as("select tenant_id, last from positions where tenant_id = any ($1)")
                .bind(ids)
                .fetch_all(&mut connection),
        )?;
        let now = Instant::now();
        for (tenant, position) in rows {
            let steps = seen.entry(tenant).or_default();
            if steps.last().is_none_or(|(last, _)| *last < position) {
                steps.push((position, now));
            }
        }
        thread::sleep(PAUSE);
    }
    Ok(seen)
}
