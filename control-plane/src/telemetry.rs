//! The control plane's instruments, and the task that reads what they show.

use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
    time::Duration,
};

use common::id::TenantId;
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram, Meter},
};
use sqlx::PgPool;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;

use crate::{
    broker::{Depth, Queues},
    problems::{self, Kind},
    tenants::retrying,
};

/// How many tenants' queues are counted; the most that a scrape should hold.
const TENANTS_MAX: i64 = 20_000;
/// What a tenant and a daemon can be; one that nobody is, is 0 and not absent.
const STATUSES: [&str; 4] = ["creating", "active", "paused", "deleting"];
const STATES: [&str; 2] = ["ready", "draining"];

/// What the gauges show: replaced as a whole by every reading. None where that failed: then they show nothing, since a
/// 0 would say that all is well.
type Shown = Arc<RwLock<Option<Reading>>>;

#[derive(Debug)]
struct Reading {
    depths: HashMap<TenantId, Depth>,
    /// Of those tenants that have any.
    retrying: HashMap<TenantId, u32>,
    tenants: Vec<(String, i64)>,
    daemons: Vec<(String, i64)>,
    assignments: Vec<(String, i64)>,
    problems: Vec<(Kind, i64)>,
}

/// The instruments that are written to.
#[derive(Clone, Debug)]
pub(crate) struct Instruments {
    /// `jalur_messages`, by outcome.
    pub(crate) messages: Counter<u64>,
    /// `jalur_config_propagation_seconds`.
    pub(crate) propagation: Histogram<f64>,
}

impl Instruments {
    pub(crate) fn new(meter: &Meter) -> Self {
        Self {
            messages: meter
                .u64_counter("jalur_messages")
                .with_description("Messages by what became of them")
                .build(),
            propagation: meter
                .f64_histogram("jalur_config_propagation_seconds")
                .with_description("From a change of a tenant's workers to its being applied")
                .with_boundaries(vec![0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0])
                .build(),
        }
    }
}

/// Reads the gauges' values.
#[derive(Debug)]
pub(crate) struct Gauges {
    reading: Shown,
    pool: PgPool,
    queues: Queues,
    per_tenant: bool,
}

impl Gauges {
    pub(crate) fn new(meter: &Meter, pool: PgPool, queues: Queues, per_tenant: bool) -> Self {
        let reading = Shown::default();
        gauge(
            meter,
            "jalur_queue_depth",
            "Messages waiting in tenants' queues, or delivered and not yet stored",
            &reading,
            move |reading| depths(reading, per_tenant, |depth| depth.queue),
        );
        gauge(
            meter,
            "jalur_dead_letters",
            "Messages in tenants' dead-letter queues",
            &reading,
            move |reading| depths(reading, per_tenant, |depth| depth.dead_letters),
        );
        gauge(
            meter,
            "jalur_retrying",
            "Messages that were refused and wait in a delay queue to be tried again",
            &reading,
            move |reading| retrying(reading, per_tenant),
        );
        gauge(meter, "jalur_tenants", "Tenants by status", &reading, |reading| {
            labelled("status", &STATUSES, &reading.tenants)
        });
        gauge(meter, "jalur_daemons", "Daemons by state", &reading, |reading| {
            labelled("state", &STATES, &reading.daemons)
        });
        gauge(
            meter,
            "jalur_assignments",
            "Lanes by the daemon they are assigned to",
            &reading,
            |reading| labelled("daemon", &[], &reading.assignments),
        );
        gauge(
            meter,
            "jalur_problems",
            "Tenants that have a problem, by its kind",
            &reading,
            problem_values,
        );
        Self {
            reading,
            pool,
            queues,
            per_tenant,
        }
    }

    /// Reads every `interval` until `stop`. What cannot be read keeps no old value.
    pub(crate) async fn run(self, interval: Duration, stop: CancellationToken) {
        let mut failing = false;
        loop {
            let start = Instant::now();
            match stop.run_until_cancelled(self.read()).await {
                None => return,
                Some(Ok(reading)) => {
                    failing = false;
                    self.replace(Some(reading));
                }
                Some(Err(error)) => {
                    if !failing {
                        warn!(%error, "cannot read the gauges; trying on");
                    }
                    failing = true;
                    self.replace(None);
                }
            }
            // Never more than a tenth of the time is spent on counting, however many queues there are.
            let pause = interval.max(start.elapsed() * 9);
            debug!(took_ms = start.elapsed().as_millis(), "read the gauges");
            if stop
                .run_until_cancelled(tokio::time::sleep(pause))
                .await
                .is_none()
            {
                return;
            }
        }
    }

    fn replace(&self, reading: Option<Reading>) {
        if let Ok(mut slot) = self.reading.write() {
            *slot = reading;
        }
    }

    async fn read(&self) -> anyhow::Result<Reading> {
        let count = async |sql: &'static str| {
            sqlx::query_as::<_, (String, i64)>(sql)
                .fetch_all(&self.pool)
                .await
        };
        let tenants = count(
            "select case phase when 'ready' then status else phase end, count(*) from tenants
             where phase <> 'gone' group by 1",
        )
        .await?;
        let daemons = count("select state, count(*) from daemons where state <> 'gone' group by 1").await?;
        let assignments =
            count("select daemon_id, count(*) from assignments where workers > 0 group by 1").await?;
        let problems = problems::counts(&self.pool).await?;
        let depths = if self.per_tenant {
            let ids = sqlx::query_scalar::<_, Uuid>(
                "select id from tenants where phase = 'ready' order by id limit $1",
            )
            .bind(TENANTS_MAX)
            .fetch_all(&self.pool)
            .await?;
            let ids: Vec<_> = ids.into_iter().map(TenantId).collect();
            let mut depths = self.queues.depths(&ids).await?;
            // What was delivered and is not stored yet is waiting too.
            let held = sqlx::query_as::<_, (Uuid, i64)>(
                "select tenant_id, sum(observed_held) from assignments where observed_held > 0 group by 1",
            );
            for (tenant, held) in held.fetch_all(&self.pool).await? {
                if let Some(depth) = depths.get_mut(&TenantId(tenant)) {
                    *depth = depth.with_held(u32::try_from(held).unwrap_or(u32::MAX));
                }
            }
            depths
        } else {
            HashMap::new()
        };
        let retrying = match self.per_tenant {
            true => retrying::all(&self.pool).await?,
            false => HashMap::new(),
        };
        Ok(Reading {
            depths,
            retrying,
            tenants,
            daemons,
            assignments,
            problems,
        })
    }
}

type Values = Vec<(i64, Vec<KeyValue>)>;

fn gauge(
    meter: &Meter,
    name: &'static str,
    description: &'static str,
    reading: &Shown,
    values: impl Fn(&Reading) -> Values + Send + Sync + 'static,
) {
    let reading = Arc::clone(reading);
    // The meter keeps the callback; the instrument itself is not needed.
    let _ = meter
        .i64_observable_gauge(name)
        .with_description(description)
        .with_callback(move |observer| {
            if let Ok(reading) = reading.read()
                && let Some(reading) = &*reading
            {
                values(reading)
                    .iter()
                    .for_each(|(value, labels)| observer.observe(*value, labels));
            }
        })
        .build();
}

fn depths(reading: &Reading, per_tenant: bool, pick: fn(&Depth) -> Option<u32>) -> Values {
    if !per_tenant {
        return Vec::new();
    }
    let label = |tenant: &TenantId| vec![KeyValue::new("tenant_id", tenant.to_string())];
    reading
        .depths
        .iter()
        .filter_map(|(tenant, depth)| Some((i64::from(pick(depth)?), label(tenant))))
        .collect()
}

/// A tenant that has none is 0, and not absent.
fn retrying(reading: &Reading, per_tenant: bool) -> Values {
    let tenants = reading.depths.keys().filter(|_| per_tenant);
    let count = |tenant: &TenantId| i64::from(reading.retrying.get(tenant).copied().unwrap_or_default());
    tenants
        .map(|tenant| {
            (
                count(tenant),
                vec![KeyValue::new("tenant_id", tenant.to_string())],
            )
        })
        .collect()
}

/// A kind that nobody has is 0, and not absent.
fn problem_values(reading: &Reading) -> Values {
    let count = |kind| {
        reading
            .problems
            .iter()
            .find(|(of, _)| *of == kind)
            .map_or(0, |(_, count)| *count)
    };
    Kind::ALL
        .map(|kind| (count(kind), vec![KeyValue::new("kind", kind.word())]))
        .into()
}

/// The counts, and 0 of those that are always there and have none.
fn labelled(key: &'static str, always: &[&str], counts: &[(String, i64)]) -> Values {
    let absent = always
        .iter()
        .filter(|value| !counts.iter().any(|(counted, _)| counted == *value));
    let absent = absent.map(|value| ((*value).to_owned(), 0));
    counts
        .iter()
        .cloned()
        .chain(absent)
        .map(|(value, count)| (count, vec![KeyValue::new(key, value)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use common::telemetry::Metrics;

    use super::*;

    #[tokio::test]
    async fn gauges_that_cannot_be_read_are_absent_and_a_state_that_has_nobody_is_0() {
        let metrics = Metrics::new().unwrap();
        let reading = Shown::default();
        gauge(&metrics.meter(), "problems", "", &reading, problem_values);
        gauge(&metrics.meter(), "daemons", "", &reading, |reading| {
            labelled("state", &STATES, &reading.daemons)
        });
        let shown = || metrics.render().unwrap();
        assert!(!shown().contains("problems{"), "{}", shown());
        *reading.write().unwrap() = Some(Reading {
            depths: HashMap::new(),
            retrying: HashMap::new(),
            tenants: Vec::new(),
            daemons: vec![("ready".into(), 2)],
            assignments: Vec::new(),
            problems: vec![(Kind::Table, 3)],
        });
        for wanted in [
            r#"problems{kind="table"} 3"#,
            r#"problems{kind="queue"} 0"#,
            r#"daemons{state="ready"} 2"#,
            r#"daemons{state="draining"} 0"#,
        ] {
            assert!(shown().contains(wanted), "{wanted}: {}", shown());
        }
    }
}
