//! What waits in all tenants' queues, as the broker says.

use std::{collections::HashMap, time::Duration};

use common::id::TenantId;
use sqlx::PgPool;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    LATE,
    counts::Counts,
    latest::{Latest, Slot},
    store,
};
use crate::broker::{Depth, Queues, plugin::Plugin};

/// How many tenants' queues are counted.
const TENANTS_MAX: i64 = 20_000;
/// For how long it goes on being read after somebody has asked.
const ASKED: Duration = Duration::from_secs(60);
/// How fast queues are counted one by one: two declares for each tenant, a fifth of what one connection does; and how many
/// tenants' at each reading, so that the plugin is asked again soon.
const PORTION: usize = 10;
const PORTION_EVERY: Duration = Duration::from_millis(40);
const TURN_MAX: usize = 1_000;
/// How long PostgreSQL may take to say which tenants there are.
const QUERY_MAX: Duration = Duration::from_secs(10);

/// What waits, by tenant. A queue that is not there has no count.
pub(crate) type Depths = HashMap<TenantId, Depth>;

/// Who is asked.
#[derive(Debug)]
pub(super) struct Sources {
    pool: PgPool,
    queues: Queues,
    plugin: Option<Plugin>,
    counted: Counted,
}

/// Whether anybody here needs to know.
#[derive(Debug)]
pub(super) struct Wanted {
    /// The control plane with the turn tells the system's metrics.
    counts: Latest<Counts>,
    asked: watch::Receiver<()>,
    asked_at: Option<Instant>,
}

impl Wanted {
    pub(super) fn new(counts: Latest<Counts>, asked: watch::Receiver<()>) -> Self {
        Self {
            counts,
            asked,
            asked_at: None,
        }
    }

    /// Completes when somebody does.
    async fn by_somebody(&mut self) {
        loop {
            if self.asked.has_changed().unwrap_or_default() {
                self.asked.mark_unchanged();
                self.asked_at = Some(Instant::now());
            }
            let asked = self.asked_at.is_some_and(|at| at.elapsed() < ASKED);
            if asked
                || self
                    .counts
                    .known()
                    .is_some_and(|counts| counts.system().is_some())
            {
                return;
            }
            tokio::select! {
                // Where nobody can ask any more the program ends.
                Ok(()) = self.asked.changed() => self.asked_at = Some(Instant::now()),
                () = self.counts.changed() => {}
            }
        }
    }
}

/// Reads it.
#[derive(Debug)]
pub(super) struct Reader {
    sources: Sources,
    interval: Duration,
    slot: Slot<Depths>,
    wanted: Wanted,
}

impl Reader {
    pub(super) fn new(sources: Sources, interval: Duration, slot: Slot<Depths>, wanted: Wanted) -> Self {
        Self {
            sources,
            interval,
            slot,
            wanted,
        }
    }

    /// Reads every `interval` until `stop`, as long as somebody needs it. What cannot be read keeps no old value.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut told = None;
        let reading = async {
            loop {
                self.wanted.by_somebody().await;
                let start = Instant::now();
                let mut problem = None;
                let depths = self.sources.read(&mut problem).await;
                debug!(took_ms = start.elapsed().as_millis(), "read the depths");
                // The next one takes as long.
                let until = start + 2 * (self.interval + start.elapsed()) + LATE;
                self.slot.put(depths, until);
                if problem.is_some() && told.is_none() {
                    warn!(problem, "cannot read what waits in all queues at once; retrying");
                }
                told = problem;
                sleep(self.interval).await;
            }
        };
        stop.run_until_cancelled(reading).await;
    }
}

impl Sources {
    pub(super) fn new(pool: PgPool, queues: Queues, plugin: Option<Plugin>) -> Self {
        Self {
            pool,
            queues,
            plugin,
            counted: Counted::default(),
        }
    }

    /// Asks the plugin, and where that does not know a tenant's queues, for each of them.
    async fn read(&mut self, problem: &mut Option<String>) -> Option<Depths> {
        let ready = match query(store::ready(&self.pool, TENANTS_MAX)).await {
            Ok(ready) => ready,
            Err(cause) => {
                *problem = Some(cause);
                return None;
            }
        };
        let mut told = HashMap::new();
        if let Some(plugin) = &self.plugin {
            let answer = plugin.read().await;
            (told, *problem) = (answer.depths, answer.problem);
        }
        let mut depths = Depths::with_capacity(ready.len());
        let mut rest = Vec::new();
        for tenant in ready {
            match told.remove(&tenant) {
                Some(depth) if depth.queue.is_some() && depth.dead_letters.is_some() => {
                    depths.insert(tenant, depth);
                }
                // A new one is not written down yet, another node's is not known there, or it is missing.
                _ => rest.push(tenant),
            }
        }
        let counted = self.count(&rest).await;
        depths.extend(self.counted.of.iter().map(|(tenant, depth)| (*tenant, *depth)));
        match counted {
            Err(cause) => {
                problem.get_or_insert(cause);
                (!depths.is_empty()).then_some(depths)
            }
            Ok(()) => Some(depths),
        }
    }

    /// Counts the queues of some of these one by one: the others' turn was before, or comes.
    async fn count(&mut self, tenants: &[TenantId]) -> Result<(), String> {
        let turn = self.counted.turn(tenants);
        match self.count_all(&turn).await {
            Ok(depths) => {
                self.counted.of.extend(depths);
                Ok(())
            }
            Err(cause) => {
                // What was counted before is not what there is now.
                self.counted = Counted::default();
                Err(cause)
            }
        }
    }

    async fn count_all(&self, tenants: &[TenantId]) -> Result<Depths, String> {
        let mut depths = Depths::with_capacity(tenants.len());
        if tenants.is_empty() {
            return Ok(depths);
        }
        let mut pace = interval(PORTION_EVERY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for portion in tenants.chunks(PORTION) {
            pace.tick().await;
            let counted = self.queues.depths(portion).await;
            depths.extend(counted.map_err(|error| error.to_string())?);
        }
        // The broker says what is ready: what was delivered and is not stored yet is waiting too.
        for (tenant, held) in query(store::held(&self.pool, tenants)).await? {
            if let Some(depth) = depths.get_mut(&tenant) {
                *depth = depth.with_held(held);
            }
        }
        Ok(depths)
    }
}

async fn query<T>(query: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, String> {
    match timeout(QUERY_MAX, query).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("PostgreSQL does not answer within {QUERY_MAX:?}")),
    }
}

/// What was counted queue by queue, some at each reading.
#[derive(Debug, Default)]
struct Counted {
    of: Depths,
    /// Whose turn was last.
    last: Option<TenantId>,
}

impl Counted {
    /// Whose turn it is among these, which are in order; what was known of them before, and of others, is forgotten.
    fn turn(&mut self, tenants: &[TenantId]) -> Vec<TenantId> {
        let first = tenants.partition_point(|tenant| self.last.is_some_and(|last| *tenant <= last));
        let (before, after) = tenants.split_at(first);
        let turn: Vec<_> = after.iter().chain(before).take(TURN_MAX).copied().collect();
        self.last = turn.last().copied().or(self.last);
        self.of.retain(|tenant, _| tenants.binary_search(tenant).is_ok());
        for tenant in &turn {
            self.of.remove(tenant);
        }
        turn
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{super::counts::System, *};

    #[test]
    fn those_that_are_counted_one_by_one_have_their_turns() {
        let tenants: Vec<_> = (0..2_500).map(|n| TenantId(Uuid::from_u128(n))).collect();
        let mut counted = Counted::default();
        for wanted in [0..1_000, 1_000..2_000] {
            let turn = counted.turn(&tenants);
            assert_eq!(turn, tenants[wanted]);
            counted
                .of
                .extend(turn.into_iter().map(|tenant| (tenant, Depth::default())));
        }
        let turn = counted.turn(&tenants);
        assert_eq!(turn[..500], tenants[2_000..]);
        assert_eq!(turn[500..], tenants[..500]);
        assert_eq!(counted.of.len(), 1_500, "whose turn it is, is not known");
        // One is left, and the plugin knows the others.
        assert_eq!(counted.turn(&tenants[700..701]), tenants[700..701]);
        assert!(counted.of.is_empty());
        assert_eq!(counted.turn(&[]), []);
    }

    #[tokio::test(start_paused = true)]
    async fn depths_are_read_where_the_turn_is_and_where_somebody_asked_within_a_minute() {
        let (slot, counts) = Latest::new();
        let asked = watch::Sender::new(());
        let mut wanted = Wanted::new(counts, asked.subscribe());
        let second = Duration::from_secs(1);
        assert!(timeout(second, wanted.by_somebody()).await.is_err());
        asked.send_replace(());
        wanted.by_somebody().await;
        tokio::time::advance(ASKED - second).await;
        wanted.by_somebody().await;
        tokio::time::advance(second).await;
        assert!(timeout(second, wanted.by_somebody()).await.is_err());
        let turn = Counts::of_system(System::default(), &[]);
        slot.put(Some(turn), Instant::now() + second);
        wanted.by_somebody().await;
        tokio::time::advance(second).await;
        assert!(timeout(second, wanted.by_somebody()).await.is_err());
    }
}
