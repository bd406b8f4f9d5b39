//! What happens to the fleet under load: a daemon that is well keeps its lanes, whatever else stands still, and what a
//! dead one had moves, whatever the others have to do.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use common::id::TenantId;
use tests::load::{Publisher, Reader};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::support::{Options, Stack, eventually};

/// Longer than a lease.
const FROZEN: Duration = Duration::from_secs(8);
/// As long as it may take after that until somebody is declared out, who is not to be.
const AFTERWARDS: Duration = Duration::from_secs(8);
/// A lease, a round and what a busy machine takes for them.
const MOVED: Duration = Duration::from_secs(15);

/// Each lane: whose, where, and since which revision.
type Lanes = BTreeSet<(Uuid, String, i64)>;

async fn lanes(stack: &Stack) -> Lanes {
    let lanes = sqlx::query_as("select tenant_id, daemon_id, revision from assignments");
    lanes.fetch_all(stack.pool()).await.unwrap().into_iter().collect()
}

/// How many lanes the daemons have restarted so far.
async fn restarts(stack: &Stack) -> f64 {
    let mut restarts = 0.0;
    for name in ["ingest-daemon-1", "ingest-daemon-2"] {
        let metrics = stack.member(name).metrics().await.unwrap();
        let counted = metrics
            .lines()
            .filter(|line| line.starts_with("jalur_lane_restarts_total"));
        restarts += counted
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum::<f64>();
    }
    restarts
}

async fn deadlocks(stack: &Stack) -> i64 {
    let deadlocks =
        sqlx::query_scalar("select deadlocks from pg_stat_database where datname = current_database()");
    deadlocks.fetch_one(stack.pool()).await.unwrap()
}

/// Publishes to the tenants in turn until `end`, and answers what was sent to each.
async fn publish_until(
    amqp_url: String,
    tenants: Vec<TenantId>,
    end: Instant,
) -> BTreeMap<TenantId, BTreeSet<Uuid>> {
    let mut publisher = Publisher::new(&amqp_url);
    let mut sent = BTreeMap::<TenantId, BTreeSet<Uuid>>::new();
    while Instant::now() < end {
        for (tenant, ids) in publisher.send(&tenants, 1_000, 256).await.unwrap() {
            sent.entry(tenant).or_default().extend(ids);
        }
    }
    sent
}

async fn all_is_stored(stack: &Stack, sent: &BTreeMap<TenantId, BTreeSet<Uuid>>) {
    for (&tenant, ids) in sent {
        let reader = Reader::new(&stack.rest(), tenant);
        reader.expect(ids).await.unwrap();
        assert_eq!(stack.count(tenant).await, ids.len() as u64, "of tenant {tenant}");
    }
}

/// What stands still, or is away, for a while.
#[derive(Clone, Copy)]
enum Away {
    FrozenPostgres,
    StoppedPostgres,
    FrozenControlPlane,
    KilledControlPlane,
}

impl Away {
    async fn goes(self, stack: &Stack) {
        match self {
            Self::FrozenPostgres => stack.freeze_postgres(),
            Self::StoppedPostgres => stack.stop_postgres().await,
            Self::FrozenControlPlane => stack.control_plane().freeze(),
            Self::KilledControlPlane => stack.control_plane().kill().await,
        }
    }

    async fn comes_back(self, stack: &Stack) {
        match self {
            Self::FrozenPostgres => stack.thaw_postgres(),
            Self::StoppedPostgres => stack.start_postgres().await,
            Self::FrozenControlPlane => stack.control_plane().thaw(),
            Self::KilledControlPlane => stack.control_plane().start_again().unwrap(),
        }
    }
}

async fn no_daemon_loses_a_lane_for(away: Away) {
    let options = Options {
        daemons: 2,
        ..Options::default()
    };
    let stack = match away {
        Away::FrozenPostgres | Away::StoppedPostgres => {
            Stack::start_alone("PostgreSQL is away", options).await
        }
        Away::FrozenControlPlane | Away::KilledControlPlane => Some(Stack::start(options).await),
    };
    let Some(stack) = stack else { return };
    let tenants = stack.tenants(12).await;
    let (before, restarted) = (lanes(&stack).await, restarts(&stack).await);
    assert_eq!(before.len(), tenants.len());
    let load = publish_until(
        stack.amqp_url().to_owned(),
        tenants.clone(),
        Instant::now() + FROZEN / 2,
    );
    let load = tokio::spawn(load);
    stack.stored(tenants[0], 20).await;

    away.goes(&stack).await;
    sleep_until(Instant::now() + FROZEN).await;
    away.comes_back(&stack).await;
    sleep_until(Instant::now() + AFTERWARDS).await;

    assert_eq!(lanes(&stack).await, before, "no lane has moved");
    all_is_stored(&stack, &load.await.unwrap()).await;
    assert_eq!(restarts(&stack).await - restarted, 0.0, "no lane was restarted");
    assert_eq!(deadlocks(&stack).await, 0);
}

#[tokio::test]
async fn postgresql_that_stands_still_costs_no_daemon_a_lane() {
    no_daemon_loses_a_lane_for(Away::FrozenPostgres).await;
}

#[tokio::test]
async fn postgresql_that_restarts_costs_no_daemon_a_lane() {
    no_daemon_loses_a_lane_for(Away::StoppedPostgres).await;
}

#[tokio::test]
async fn a_control_plane_that_stands_still_costs_no_daemon_a_lane() {
    no_daemon_loses_a_lane_for(Away::FrozenControlPlane).await;
}

#[tokio::test]
async fn a_control_plane_that_is_started_again_costs_no_daemon_a_lane() {
    no_daemon_loses_a_lane_for(Away::KilledControlPlane).await;
}

#[tokio::test]
async fn a_dead_daemons_lanes_move_although_the_control_plane_died_with_it_and_the_other_is_busy() {
    let options = Options {
        daemons: 2,
        ..Options::default()
    };
    let stack = Stack::start(options).await;
    let tenants = stack.tenants(8).await;
    let load = publish_until(
        stack.amqp_url().to_owned(),
        tenants.clone(),
        Instant::now() + MOVED,
    );
    let load = tokio::spawn(load);
    stack.stored(tenants[0], 20).await;

    let dead = stack.member("ingest-daemon-1");
    tokio::join!(stack.control_plane().kill(), dead.kill());
    stack.control_plane().start_again().unwrap();
    stack.control_plane().ready().await.unwrap();
    let back = Instant::now();
    eventually("its lanes have moved", async || {
        let lanes = lanes(&stack).await;
        lanes.len() == tenants.len() && lanes.iter().all(|(_, daemon, _)| daemon == "ingest-daemon-2")
    })
    .await;
    let moved = back.elapsed();
    assert!(moved < MOVED, "they took {moved:?}");
    all_is_stored(&stack, &load.await.unwrap()).await;
}

#[tokio::test]
async fn reports_rounds_and_joining_daemons_wait_for_each_other_in_no_circle() {
    const ROUNDS: u64 = 40;
    let options = Options {
        daemons: 3,
        ..Options::default()
    };
    let stack = Stack::start(options).await;
    let tenants = stack.tenants(12).await;
    let load = publish_until(
        stack.amqp_url().to_owned(),
        tenants.clone(),
        Instant::now() + Duration::from_secs(8),
    );
    let load = tokio::spawn(load);
    // Each round moves lanes of all tenants at once, while the daemons report them.
    let admin = stack.admin();
    for round in 0..ROUNDS {
        let workers = 1 + (round * 7) % 40;
        sqlx::query("update tenants set workers = $1 + abs(hashtext(id::text)) % 9")
            .bind(i32::try_from(workers).unwrap())
            .execute(stack.pool())
            .await
            .unwrap();
        let daemon = format!("/api/daemons/ingest-daemon-{}", 1 + round % 3);
        let verb = if round % 2 == 0 { "drain" } else { "undrain" };
        let path = format!("{daemon}/{verb}");
        let (status, answer) = stack.post(&path, &admin, &serde_json::json!({})).await;
        assert_eq!(status, 200, "{answer}");
    }
    all_is_stored(&stack, &load.await.unwrap()).await;
    assert_eq!(deadlocks(&stack).await, 0);
}
