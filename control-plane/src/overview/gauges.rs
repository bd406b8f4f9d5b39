//! What is read, as metrics. Those of the whole system are shown by the one control plane that has the turn, so that
//! adding up over all of them counts nothing twice.
//!
//! Where something could not be read there is nothing, since a 0 would say that all is well.

use common::id::TenantId;
use opentelemetry::{
    KeyValue,
    metrics::{AsyncInstrument, Meter},
};

use super::{
    Overview,
    counts::{Counts, System},
    depths::Depths,
};
use crate::{broker::Depth, problems::Kind};

/// What a tenant and a daemon can be; one that nobody is, is 0 and not absent.
const STATUSES: [&str; 4] = ["creating", "active", "paused", "deleting"];
const STATES: [&str; 2] = ["ready", "draining"];

type Values = Vec<(u64, Vec<KeyValue>)>;

/// Makes the instruments. The meter keeps their callbacks; themselves they are not needed.
pub(super) fn register(meter: &Meter, overview: &Overview, per_tenant: bool) {
    gauge(
        meter,
        "jalur_queue_depth",
        "Messages waiting in tenants' queues, or delivered and not yet stored",
        overview,
        move |overview| depths(overview, per_tenant, |depth| depth.queue),
    );
    gauge(
        meter,
        "jalur_dead_letters",
        "Messages in tenants' dead-letter queues",
        overview,
        move |overview| depths(overview, per_tenant, |depth| depth.dead_letters),
    );
    gauge(
        meter,
        "jalur_retrying",
        "Messages that were refused and wait in a delay queue to be tried again",
        overview,
        move |overview| retrying(overview, per_tenant),
    );
    gauge(
        meter,
        "jalur_tenants",
        "Tenants by status",
        overview,
        of_system(|system| labelled("status", &STATUSES, &system.tenants)),
    );
    gauge(
        meter,
        "jalur_daemons",
        "Daemons by state",
        overview,
        of_system(|system| labelled("state", &STATES, &system.daemons)),
    );
    gauge(
        meter,
        "jalur_assignments",
        "Lanes by the daemon they are assigned to",
        overview,
        of_system(|system| labelled("daemon", &[], &system.assignments)),
    );
    gauge(
        meter,
        "jalur_problems",
        "Tenants that have a problem, by its kind",
        overview,
        of_system(problems),
    );
    let shown = overview.clone();
    let _ = meter
        .u64_observable_counter("jalur_stored")
        .with_description("Messages of a tenant that were stored, by any daemon")
        .with_callback(move |counter| {
            if per_tenant && let Some(counts) = shown.counts.known() {
                show(&stored(&counts), counter);
            }
        })
        .build();
    let shown = overview.clone();
    common::telemetry::up(
        meter,
        "jalur_database_up",
        "Whether this process reaches PostgreSQL",
        move || shown.counts.known().is_some(),
    );
}

fn gauge(
    meter: &Meter,
    name: &'static str,
    description: &'static str,
    overview: &Overview,
    values: impl Fn(&Overview) -> Values + Send + Sync + 'static,
) {
    let overview = overview.clone();
    let _ = meter
        .u64_observable_gauge(name)
        .with_description(description)
        .with_callback(move |gauge| show(&values(&overview), gauge))
        .build();
}

fn show(values: &Values, instrument: &dyn AsyncInstrument<u64>) {
    values
        .iter()
        .for_each(|(value, labels)| instrument.observe(*value, labels));
}

fn of_system(
    values: impl Fn(&System) -> Values + Send + Sync + 'static,
) -> impl Fn(&Overview) -> Values + Send + Sync + 'static {
    move |overview| {
        let counts = overview.counts.known();
        counts
            .as_ref()
            .and_then(|counts| counts.system())
            .map_or_else(Vec::new, &values)
    }
}

/// By tenant, or all of them together.
fn depths(overview: &Overview, per_tenant: bool, pick: fn(&Depth) -> Option<u32>) -> Values {
    let has_turn = overview
        .counts
        .known()
        .is_some_and(|counts| counts.system().is_some());
    match overview.depths.known() {
        Some(depths) if has_turn && per_tenant => by_tenant(&depths, pick),
        Some(depths) if has_turn => {
            let all = depths.values().filter_map(pick).map(u64::from).sum();
            vec![(all, Vec::new())]
        }
        _ => Vec::new(),
    }
}

/// By tenant, of whom one that has none is 0 and not absent; or all of them together.
fn retrying(overview: &Overview, per_tenant: bool) -> Values {
    let Some(counts) = overview.counts.known().filter(|counts| counts.system().is_some()) else {
        return Vec::new();
    };
    let tenants = counts.stored().keys();
    let values = tenants.map(|tenant| (u64::from(counts.retrying(*tenant)), tenant));
    match per_tenant {
        true => values.map(|(count, tenant)| (count, of_tenant(tenant))).collect(),
        false => vec![(values.map(|(count, _)| count).sum(), Vec::new())],
    }
}

fn by_tenant(depths: &Depths, pick: fn(&Depth) -> Option<u32>) -> Values {
    depths
        .iter()
        .filter_map(|(tenant, depth)| Some((pick(depth)?.into(), of_tenant(tenant))))
        .collect()
}

fn stored(counts: &Counts) -> Values {
    if counts.system().is_none() {
        return Vec::new();
    }
    let stored = counts.stored().iter();
    stored
        .map(|(tenant, stored)| (stored.unsigned_abs(), of_tenant(tenant)))
        .collect()
}

fn of_tenant(tenant: &TenantId) -> Vec<KeyValue> {
    vec![KeyValue::new("tenant_id", tenant.to_string())]
}

/// A kind that nobody has is 0, and not absent.
fn problems(system: &System) -> Values {
    let count = |kind| {
        let found = system.problems.iter().find(|(of, _)| *of == kind);
        found.map_or(0, |(_, count)| count.unsigned_abs())
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
        .map(|(value, count)| (count.unsigned_abs(), vec![KeyValue::new(key, value)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use common::telemetry::Metrics;
    use tokio::{sync::watch, time::Instant};
    use uuid::Uuid;

    use super::{super::latest::Latest, *};

    const TENANT: &str = "00000000-0000-0000-0000-000000000001";

    #[tokio::test(start_paused = true)]
    async fn what_was_not_read_is_absent_and_a_state_that_has_nobody_is_0() {
        let (metrics, summed) = (Metrics::new().unwrap(), Metrics::new().unwrap());
        let ((counted, counts), (measured, depths)) = (Latest::new(), Latest::new());
        let overview = Overview {
            counts,
            depths,
            asked: Arc::new(watch::Sender::new(())),
        };
        register(&metrics.meter(), &overview, true);
        register(&summed.meter(), &overview, false);
        let shown = || metrics.render().unwrap();
        let series = || {
            shown()
                .lines()
                .filter(|line| !line.starts_with("process_") && !line.starts_with('#'))
                .count()
        };
        assert!(shown().contains("jalur_database_up 0"), "{}", shown());
        assert_eq!(series(), 1, "{}", shown());

        let [one, other] = [1, 2].map(|n| TenantId(Uuid::from_u128(n)));
        let system = System {
            daemons: vec![("ready".into(), 2)],
            problems: vec![(Kind::Table, 3)],
            ..System::default()
        };
        let until = Instant::now() + Duration::from_secs(1);
        counted.put(Some(Counts::of_system(system, &[(one, 7)])), until);
        let depth = |queue| Depth {
            queue: Some(queue),
            dead_letters: None,
        };
        measured.put(Some(Depths::from([(one, depth(5)), (other, depth(6))])), until);
        for wanted in [
            "jalur_database_up 1",
            r#"jalur_problems{kind="table"} 3"#,
            r#"jalur_problems{kind="queue"} 0"#,
            r#"jalur_daemons{state="ready"} 2"#,
            r#"jalur_daemons{state="draining"} 0"#,
            &format!(r#"jalur_queue_depth{{tenant_id="{TENANT}"}} 5"#),
            &format!(r#"jalur_stored_total{{tenant_id="{TENANT}"}} 7"#),
        ] {
            assert!(shown().contains(wanted), "{wanted}: {}", shown());
        }
        assert!(!shown().contains("jalur_dead_letters{"), "{}", shown());
        let summed = summed.render().unwrap();
        assert!(summed.contains("jalur_queue_depth 11"), "{summed}");
        assert!(!summed.contains("tenant_id"), "{summed}");

        measured.put(None, until);
        assert!(!shown().contains("jalur_queue_depth{") && shown().contains("jalur_stored_total{"));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(series(), 1, "what is too old is not shown: {}", shown());
    }
}
