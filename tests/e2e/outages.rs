//! What fails under load, for as long as it takes: nothing is lost, doubled, out of order or dead-lettered for it.

use std::{collections::BTreeSet, time::Duration};

use common::id::TenantId;
use futures::future::try_join_all;
use lapin::BasicProperties;
use serde_json::json;
use tests::load::{Publisher, Reader};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::support::{Options, Stack, eventually};

/// A minute: longer than every timeout there is between daemon and database.
const OUTAGE: Duration = Duration::from_secs(60);
/// Each shard finds out for itself, and says so once.
const SHARDS: usize = 2;
/// Longer than a lane is tried as one of many, and than its messages stay here.
const LOCKED: Duration = Duration::from_secs(20);

async fn no_dead_letters(stack: &Stack, tenant: TenantId) {
    let (dead, _) = stack.queue(&tenant.dead_letter_queue()).await.unwrap();
    assert_eq!(dead, 0, "of tenant {tenant}");
}

/// How often a line of the daemon's log has this.
fn said(stack: &Stack, words: &str) -> usize {
    let log = stack.daemon().log_tail(100_000);
    log.lines().filter(|line| line.contains(words)).count()
}

#[tokio::test]
async fn a_daemon_killed_ten_times_stores_each_message_once_or_dead_letters_it() {
    const MESSAGES: usize = 200_000;
    const KILLS: usize = 10;
    const WINDOWS: usize = 100;
    let stack = Stack::start(Options::default()).await;
    let tenants = stack.tenants(5).await;
    let each = MESSAGES / tenants.len();

    let (amqp_url, to) = (stack.amqp_url().to_owned(), tenants.clone());
    let sending = tokio::spawn(async move {
        let mut publisher = Publisher::new(&amqp_url);
        let mut sent = Vec::new();
        for n in 0..WINDOWS {
            sent.push(publisher.send(&to, MESSAGES / WINDOWS, 256).await?);
            // One that can never be stored, among them.
            let poison = BasicProperties::default()
                .with_message_id(Uuid::now_v7().to_string().into())
                .with_delivery_mode(2);
            publisher.send_one(to[n % to.len()], b"no json", poison).await?;
        }
        anyhow::Ok(sent)
    });
    // They read on while the daemon dies: a position that shows after a later one would never be seen.
    let reading = tokio::spawn(try_join_all(tenants.iter().map(|&tenant| {
        let mut reader = Reader::new(&stack.rest(), tenant);
        async move { reader.until(each).await.map(|()| reader) }
    })));
    for kill in 1..=KILLS {
        let part = (MESSAGES * kill / (KILLS + 1)) as i64;
        eventually("enough is stored for the next kill", async || {
            let stored = sqlx::query_scalar::<_, i64>("select coalesce(sum(last), 0)::bigint from positions");
            stored.fetch_one(stack.pool()).await.unwrap() >= part
        })
        .await;
        stack.daemon().kill().await;
        stack.daemon().start_again().unwrap();
    }

    let mut wanted = vec![BTreeSet::new(); tenants.len()];
    for window in sending.await.unwrap().unwrap() {
        for (tenant, wanted) in tenants.iter().zip(&mut wanted) {
            wanted.extend(&window[tenant]);
        }
    }
    for (reader, wanted) in reading.await.unwrap().unwrap().into_iter().zip(&wanted) {
        reader.expect(wanted).await.unwrap();
    }
    for &tenant in &tenants {
        assert_eq!(stack.count(tenant).await, each as u64);
        // One whose letter was safe but whose delivery was not settled yet comes twice, and says so by its id.
        let poison = (WINDOWS / tenants.len()) as u32;
        eventually("what cannot be stored is a dead letter", async || {
            let letters = stack.queue(&tenant.dead_letter_queue()).await.unwrap().0;
            letters >= poison && letters <= poison + KILLS as u32
        })
        .await;
    }
}

#[tokio::test]
async fn a_minute_without_postgresql_holds_everything_and_dead_letters_nothing() {
    let options = Options::default();
    let Some(stack) = Stack::start_alone("a minute without PostgreSQL", options).await else {
        return;
    };
    let tenants = stack.tenants(3).await;
    let (amqp_url, to) = (stack.amqp_url().to_owned(), tenants.clone());
    let sending = tokio::spawn(async move { Publisher::new(&amqp_url).send(&to, 20_000, 256).await });
    stack.stored(tenants[0], 500).await;
    stack.stop_postgres().await;
    let end = Instant::now() + OUTAGE;

    eventually("the daemon says so", async || {
        said(&stack, "PostgreSQL cannot store") > 0
    })
    .await;
    let sent = sending.await.unwrap().unwrap();
    // Everything that its lanes may hold is there by now.
    let (busy, memory) = (stack.daemon_cpu(), stack.daemon_memory());
    let rest = end.saturating_duration_since(Instant::now());
    assert!(
        rest > OUTAGE / 3,
        "publishing took longer than most of the outage"
    );
    sleep_until(end).await;
    let busy = stack.daemon_cpu() - busy;
    assert!(busy < rest / 10, "{busy:?} of CPU in {rest:?} of holding still");
    let grown = stack.daemon_memory().saturating_sub(memory);
    assert!(
        grown < 8 << 20,
        "{grown} bytes more while nothing could be stored"
    );
    assert!(
        said(&stack, "PostgreSQL cannot store") <= SHARDS,
        "one line for the change, not for each message"
    );

    stack.start_postgres().await;
    for &tenant in &tenants {
        let reader = Reader::new(&stack.rest(), tenant);
        reader.expect(&sent[&tenant]).await.unwrap();
        no_dead_letters(&stack, tenant).await;
    }
    assert!((1..=SHARDS).contains(&said(&stack, "PostgreSQL stores again")));
}

#[tokio::test]
async fn a_tenant_whose_table_is_locked_waits_alone() {
    let stack = Stack::start(Options::default()).await;
    let tenants = stack.tenants(3).await;
    let [locked, others @ ..] = tenants.as_slice() else {
        return;
    };
    let mut publisher = Publisher::new(stack.amqp_url());
    let mut sent = publisher.send(&tenants, 300, 256).await.unwrap();
    stack.stored(*locked, 100).await;

    let transaction = stack.lock_table(*locked).await;
    let end = Instant::now() + LOCKED;
    let mut stored = 100;
    while Instant::now() < end {
        for (tenant, ids) in publisher.send(&tenants, 300, 256).await.unwrap() {
            sent.entry(tenant).or_default().extend(ids);
        }
        stored += 100;
        for &tenant in others {
            stack.stored(tenant, stored).await;
        }
        let position = sqlx::query_scalar::<_, i64>("select last from positions where tenant_id = $1")
            .bind(locked.0)
            .fetch_one(stack.pool())
            .await
            .unwrap();
        assert_eq!(position, 100, "nothing of the locked tenant can have been stored");
    }
    transaction.rollback().await.unwrap();
    for &tenant in &tenants {
        let reader = Reader::new(&stack.rest(), tenant);
        reader.expect(&sent[&tenant]).await.unwrap();
        no_dead_letters(&stack, tenant).await;
    }
    assert_eq!(
        said(&stack, "table cannot be written"),
        1,
        "one line for the change"
    );
    assert_eq!(said(&stack, "table can be written again"), 1);
}

#[tokio::test]
async fn a_shard_whose_channel_does_not_answer_gives_its_deliveries_back() {
    const MESSAGES: u32 = 10;
    let Some(stack) = Stack::start_alone("a channel that hangs", Options::default()).await else {
        return;
    };
    let tenant = stack.tenant("held").await;
    let lock = stack.lock_table(tenant).await;
    let mut publisher = Publisher::new(stack.amqp_url());
    let sent = publisher.send(&[tenant], MESSAGES as usize, 256).await.unwrap();
    let waiting = async || stack.queue(&tenant.queue()).await.unwrap().0;
    eventually("the daemon has them", async || waiting().await == 0).await;

    stack.hang_consuming_channels(true).await;
    let (path, admin) = (format!("/api/tenants/{tenant}"), stack.admin());
    let (status, answer) = stack.patch(&path, &admin, &json!({ "status": "paused" })).await;
    assert_eq!(status, 200, "{answer}");
    eventually("the shard gives the channel up", async || {
        said(&stack, "a shard lost its channel") == 1
    })
    .await;
    stack.hang_consuming_channels(false).await;
    eventually("they are back", async || waiting().await == MESSAGES).await;

    lock.rollback().await.unwrap();
    let (status, answer) = stack.patch(&path, &admin, &json!({ "status": "active" })).await;
    assert_eq!(status, 200, "{answer}");
    stack.stored(tenant, MESSAGES.into()).await;
    Reader::new(&stack.rest(), tenant)
        .expect(&sent[&tenant])
        .await
        .unwrap();
}
