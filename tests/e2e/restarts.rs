//! Whatever is restarted under load: nothing is lost, nothing is stored twice.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;
use tests::load::{Publisher, Reader};

use crate::support::{Options, Stack, eventually};

const MESSAGES: usize = 20_000;

/// What is restarted while messages come in.
#[derive(Clone, Copy)]
enum Restarted {
    Daemon,
    KilledDaemon,
    ControlPlane,
    Rabbitmq,
    Postgres,
}

async fn nothing_is_lost_when(restarted: Restarted) {
    let stack = match restarted {
        Restarted::Rabbitmq | Restarted::Postgres => {
            Stack::start_alone("a restart of services", Options::default()).await
        }
        _ => Some(Stack::start(Options::default()).await),
    };
    let Some(stack) = stack else { return };
    let tenants = stack.tenants(3).await;
    let amqp_url = stack.amqp_url().to_owned();
    let to = tenants.clone();
    let sending = tokio::spawn(async move { Publisher::new(&amqp_url).send(&to, MESSAGES, 256).await });
    stack.stored(tenants[0], 500).await;
    match restarted {
        Restarted::Daemon => stack.daemon().restart().await.unwrap(),
        Restarted::KilledDaemon => {
            stack.daemon().kill().await;
            stack.daemon().start_again().unwrap();
            stack.daemon().ready().await.unwrap();
        }
        Restarted::ControlPlane => stack.control_plane().restart().await.unwrap(),
        Restarted::Rabbitmq => stack.restart_rabbitmq().await,
        Restarted::Postgres => stack.restart_postgres().await,
    }
    let sent = sending.await.unwrap().unwrap();
    for &tenant in &tenants {
        Reader::new(&stack.rest(), tenant)
            .expect(&sent[&tenant])
            .await
            .unwrap();
    }
    for &tenant in &tenants {
        eventually("the tenant's queue is settled", async || {
            stack
                .get(&format!("/api/tenants/{tenant}"), &stack.admin())
                .await
                .1["runtime"]["queue_depth"]
                == 0
        })
        .await;
        assert_eq!(
            stack
                .queue(&tenant.dead_letter_queue())
                .await
                .map(|(messages, _)| messages),
            Some(0)
        );
    }
    // Everything works on: a change is applied.
    let path = format!("/api/tenants/{}/config/concurrency", tenants[0]);
    eventually("a change is applied", async || {
        stack.put(&path, &stack.admin(), &json!({ "workers": 4 })).await.1["applied"] == true
    })
    .await;
}

#[tokio::test]
async fn a_daemon_that_is_stopped_and_started_loses_nothing() {
    nothing_is_lost_when(Restarted::Daemon).await;
}

#[tokio::test]
async fn a_daemon_that_is_killed_loses_nothing() {
    nothing_is_lost_when(Restarted::KilledDaemon).await;
}

#[tokio::test]
async fn a_control_plane_that_is_restarted_stops_no_consumer() {
    nothing_is_lost_when(Restarted::ControlPlane).await;
}

#[tokio::test]
async fn a_restart_of_rabbitmq_loses_nothing() {
    nothing_is_lost_when(Restarted::Rabbitmq).await;
}

#[tokio::test]
async fn a_restart_of_postgresql_loses_nothing_and_dead_letters_nothing() {
    nothing_is_lost_when(Restarted::Postgres).await;
}

#[tokio::test]
async fn a_stop_is_clean_and_quick_and_leaves_no_delivery_unsettled() {
    let stack = Stack::start(Options::default()).await;
    let tenant = stack.tenant("stopping").await;
    let mut publisher = Publisher::new(stack.amqp_url());
    let sent: BTreeSet<_> = publisher
        .send(&[tenant], 5_000, 256)
        .await
        .unwrap()
        .remove(&tenant)
        .unwrap();
    let start = tokio::time::Instant::now();
    let status = stack.daemon().terminate().await;
    assert_eq!(status.code(), Some(0), "a clean stop exits 0");
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "within the grace, and well before its end"
    );
    // What is stored and what waits again are all there is, once the broker has worked off what it was sent: nothing
    // is both, since nothing was in the air.
    eventually("every message is stored or waits, and none is both", async || {
        let (waiting, consumers) = stack.queue(&tenant.queue()).await.unwrap();
        consumers == 0 && stack.count(tenant).await + u64::from(waiting) == sent.len() as u64
    })
    .await;
    let status = stack.control_plane().terminate().await;
    assert_eq!(status.code(), Some(0));
    for member in [stack.control_plane(), stack.daemon()] {
        member.start_again().unwrap();
        member.ready().await.unwrap();
    }
    Reader::new(&stack.rest(), tenant).expect(&sent).await.unwrap();
}
