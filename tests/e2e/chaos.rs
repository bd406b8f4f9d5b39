//! Whatever dies, hangs or stops, in whatever order: nothing is lost, doubled or left alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use common::id::TenantId;
use futures::future::join_all;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;
use tests::{
    Member,
    load::{Publisher, Reader},
};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::support::{Options, Stack, eventually};

const DURING: Duration = Duration::from_secs(120);
const TENANTS: usize = 20;
/// Messages published together.
const WINDOW: usize = 200;
/// Between these: a load beside every kill, and room on two cores for the tests beside this one.
const BETWEEN_WINDOWS: Duration = Duration::from_millis(400);
/// A new tenant's workers, and what some are set to: more than a daemon's fair share.
const WORKERS: u64 = 3;
const WIDE: u64 = 40;

/// Does something to one of these after the other until `end`, and leaves them all running.
async fn trouble(members: Vec<&Member>, mut random: StdRng, end: Instant) {
    while Instant::now() < end {
        let member = members[random.random_range(0..members.len())];
        let pause = Duration::from_millis(random.random_range(0..8_000));
        match random.random_range(0..3) {
            0 => {
                member.kill().await;
                sleep(pause / 4).await;
                member.start_again().unwrap();
            }
            1 => {
                member.terminate().await;
                sleep(pause / 4).await;
                member.start_again().unwrap();
            }
            _ => {
                member.freeze();
                sleep(pause).await;
                member.thaw();
            }
        }
        sleep(Duration::from_millis(random.random_range(0..4_000))).await;
    }
}

#[tokio::test]
async fn daemons_and_control_planes_die_hang_and_stop_at_random_and_nothing_is_lost() {
    let seed: u64 = rand::random();
    // Shown when the test fails.
    eprintln!("seed {seed}");
    let options = Options {
        control_planes: 2,
        daemons: 3,
        ..Options::default()
    };
    let stack = Stack::start(options).await;
    let tenants = stack.tenants(TENANTS).await;
    let mut workers = BTreeMap::new();
    for (n, &tenant) in tenants.iter().enumerate() {
        let wide = n % 5 == 0;
        if wide {
            let path = format!("/api/tenants/{tenant}/config/concurrency");
            let (status, answer) = stack
                .put(&path, &stack.admin(), &json!({ "workers": WIDE }))
                .await;
            assert_eq!(status, 200, "{answer}");
        }
        workers.insert(tenant, if wide { WIDE } else { WORKERS });
    }

    let end = Instant::now() + DURING;
    let (amqp_url, to) = (stack.amqp_url().to_owned(), tenants.clone());
    let sending = tokio::spawn(async move {
        let mut publisher = Publisher::new(&amqp_url);
        let mut sent = BTreeMap::<TenantId, BTreeSet<Uuid>>::new();
        while Instant::now() < end {
            for (tenant, ids) in publisher.send(&to, WINDOW, 256).await? {
                sent.entry(tenant).or_default().extend(ids);
            }
            sleep(BETWEEN_WINDOWS).await;
        }
        anyhow::Ok(sent)
    });
    let daemons = ["ingest-daemon-1", "ingest-daemon-2", "ingest-daemon-3"].map(|name| stack.member(name));
    let control_planes = ["control-plane-1", "control-plane-2"].map(|name| stack.member(name));
    tokio::join!(
        trouble(daemons.to_vec(), StdRng::seed_from_u64(seed), end),
        trouble(control_planes.to_vec(), StdRng::seed_from_u64(seed + 1), end),
    );

    let sent = sending.await.unwrap().unwrap();
    join_all(tenants.iter().map(async |tenant| {
        let reader = Reader::new(&stack.rest(), *tenant);
        reader.expect(&sent[tenant]).await.unwrap();
        assert_eq!(stack.count(*tenant).await, sent[tenant].len() as u64);
    }))
    .await;
    eventually(
        "every tenant is consumed with the workers it was set",
        async || {
            let consumers = join_all(tenants.iter().map(|&tenant| stack.consumers(tenant))).await;
            tenants
                .iter()
                .zip(consumers)
                .all(|(tenant, consumers)| consumers.values().sum::<u64>() == workers[tenant])
        },
    )
    .await;
}
