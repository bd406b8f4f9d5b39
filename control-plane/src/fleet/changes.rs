//! Wakes whoever waits for the fleet's rows to change, on every control plane.
//!
//! A notification only says "look again"; a slow tick says so too, so that a lost one costs a second and nothing
//! else. Counters, not messages: any number of changes before someone looks are one. Who waits for one tenant's lanes
//! is woken for that tenant's alone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use common::id::TenantId;
use sqlx::{
    PgExecutor, PgPool,
    postgres::{PgListener, PgNotification},
};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// How often everyone looks without being told.
const TICK: Duration = Duration::from_secs(1);
/// How long a lost listener waits before it connects again.
const RETRY: Duration = Duration::from_millis(500);
/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// How many tenants one notification names: 7.2 kB of the 8 that it may have.
const TENANTS_MAX: usize = 200;

/// What can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// Tenants or daemons: a round may be needed.
    Demand,
    /// Assignments: streams have something to send.
    Assignments,
    /// Lanes: which there are, where they stand, or which revision they run.
    Lanes,
}

const TOPICS: [Topic; 3] = [Topic::Demand, Topic::Assignments, Topic::Lanes];

impl Topic {
    fn channel(self) -> &'static str {
        match self {
            Self::Demand => "jalur_demand",
            Self::Assignments => "jalur_assignments",
            Self::Lanes => "jalur_lanes",
        }
    }
}

/// Counts changes.
type Counter = watch::Sender<u64>;

/// A handle to wait with.
#[derive(Clone, Debug)]
pub(crate) struct Changes {
    topics: [Counter; 3],
    /// Of the tenants whose lanes somebody waits for.
    tenants: Arc<Mutex<HashMap<TenantId, Counter>>>,
}

impl Changes {
    pub(crate) fn new() -> Self {
        Self {
            topics: [0; 3].map(|start| watch::channel(start).0),
            tenants: Arc::default(),
        }
    }

    /// Changes of a topic from here on. Subscribe before you look, then wait.
    pub(crate) fn subscribe(&self, topic: Topic) -> watch::Receiver<u64> {
        self.topics[topic as usize].subscribe()
    }

    /// Changes of a tenant's lanes from here on.
    pub(crate) fn subscribe_lanes_of(&self, tenant: TenantId) -> watch::Receiver<u64> {
        let mut tenants = self.tenants();
        tenants
            .entry(tenant)
            .or_insert_with(|| watch::channel(0).0)
            .subscribe()
    }

    /// Listens until `stop`, and ticks whatever is heard.
    pub(crate) async fn run(self, pool: PgPool, stop: CancellationToken) {
        let both = async { tokio::join!(self.listen_on(&pool), self.tick()) };
        let _ = stop.run_until_cancelled(both).await;
    }

    async fn tick(&self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.wake(Topic::Demand);
            self.wake(Topic::Assignments);
            self.tenants().retain(|_, counter| counter.receiver_count() > 0);
        }
    }

    async fn listen_on(&self, pool: &PgPool) {
        let mut failing = false;
        loop {
            if let Err(error) = self.listen(pool, &mut failing).await {
                // The first of an outage is said, the others only to those who look closely.
                if failing {
                    debug!(%error, "still cannot listen for changes");
                } else {
                    warn!(%error, "cannot listen for changes; looking every second instead");
                }
                failing = true;
            }
            self.wake_all();
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn listen(&self, pool: &PgPool, failing: &mut bool) -> Result<(), sqlx::Error> {
        let connect = async {
            let mut listener = PgListener::connect_with(pool).await?;
            listener.listen_all(TOPICS.map(Topic::channel)).await?;
            Ok::<_, sqlx::Error>(listener)
        };
        let mut listener = timeout(CONNECT, connect)
            .await
            .unwrap_or(Err(sqlx::Error::PoolTimedOut))?;
        *failing = false;
        self.wake_all();
        loop {
            match listener.try_recv().await? {
                Some(notification) => self.heard(&notification),
                // The connection was lost; what was sent meanwhile is not known.
                None => self.wake_all(),
            }
        }
    }

    fn heard(&self, notification: &PgNotification) {
        let topic = TOPICS
            .into_iter()
            .find(|topic| topic.channel() == notification.channel());
        let Some(topic) = topic else { return };
        self.wake(topic);
        if topic == Topic::Lanes {
            self.wake_lanes(notification.payload());
        }
    }

    /// Wakes those who wait for the tenants named.
    fn wake_lanes(&self, named: &str) {
        let tenants = self.tenants();
        let named = named.split(',').filter_map(|tenant| tenant.parse().ok());
        for counter in named.filter_map(|tenant: TenantId| tenants.get(&tenant)) {
            count(counter);
        }
    }

    /// Wakes those in this process.
    fn wake(&self, topic: Topic) {
        count(&self.topics[topic as usize]);
    }

    fn wake_all(&self) {
        TOPICS.into_iter().for_each(|topic| self.wake(topic));
        self.tenants().values().for_each(count);
    }

    fn tenants(&self) -> MutexGuard<'_, HashMap<TenantId, Counter>> {
        // Nothing that holds the lock can leave it half changed.
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(counter: &Counter) {
    counter.send_modify(|count| *count = count.wrapping_add(1));
}

/// Tells every control plane, once the statement's transaction commits.
pub(crate) async fn notify(executor: impl PgExecutor<'_>, topic: Topic) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_notify($1, '')")
        .bind(topic.channel())
        .execute(executor)
        .await
        .map(drop)
}

/// Tells every control plane whose lanes have changed, once the statement's transaction commits.
pub(super) async fn notify_lanes(
    executor: impl PgExecutor<'_>,
    tenants: &[TenantId],
) -> Result<(), sqlx::Error> {
    let named = |tenants: &[TenantId]| {
        let names: Vec<_> = tenants.iter().map(TenantId::to_string).collect();
        names.join(",")
    };
    let payloads: Vec<_> = tenants.chunks(TENANTS_MAX).map(named).collect();
    if payloads.is_empty() {
        return Ok(());
    }
    sqlx::query("select pg_notify($1, payload) from unnest($2::text[]) as payload")
        .bind(Topic::Lanes.channel())
        .bind(payloads)
        .execute(executor)
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn tenant(n: u128) -> TenantId {
        TenantId(Uuid::from_u128(n))
    }

    #[test]
    fn who_waits_for_a_tenant_is_woken_for_that_one_alone() {
        let changes = Changes::new();
        let (one, other) = (
            changes.subscribe_lanes_of(tenant(1)),
            changes.subscribe_lanes_of(tenant(2)),
        );
        changes.wake_lanes(&format!("nonsense,{},{}", tenant(3), tenant(1)));
        let woken = |receiver: &watch::Receiver<u64>| receiver.has_changed().unwrap();
        assert!(woken(&one) && !woken(&other));
        changes.wake_all();
        assert!(woken(&other), "what was missed may have been anything");
    }

    #[tokio::test(start_paused = true)]
    async fn every_second_is_a_tick_whatever_else_is_heard_and_forgets_who_waits_no_more() {
        let changes = Changes::new();
        let mut demand = changes.subscribe(Topic::Demand);
        drop(changes.subscribe_lanes_of(tenant(1)));
        let ticking = changes.clone();
        let ticks = tokio::spawn(async move { ticking.tick().await });
        let noise = async {
            loop {
                changes.wake(Topic::Lanes);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let ticked = async {
            for _ in 0..3 {
                demand.changed().await.unwrap();
            }
        };
        tokio::select! {
            () = noise => {}
            () = ticked => {}
        }
        ticks.abort();
        assert!(changes.tenants().is_empty());
    }

    #[test]
    fn a_notification_has_room_for_all_that_it_names() {
        let longest = (tenant(u128::MAX).to_string().len() + 1) * TENANTS_MAX;
        assert!(longest < 8_000, "{longest}");
    }
}
