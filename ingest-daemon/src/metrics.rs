//! What the daemon measures, under the names of the contract.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use common::telemetry::Metrics;
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram},
};

use crate::{
    commit::Outcome,
    lane::{Board, Kind, Observed},
};

/// From a message alone to the most that a commit may have.
const BATCH_BOUNDARIES: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 4_000.0];
/// From a commit on an idle machine to the statement timeout.
const COMMIT_BOUNDARIES: [f64; 12] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 10.0,
];
/// From a lone message to a backlog of minutes.
const LATENCY_BOUNDARIES: [f64; 14] = [
    0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0, 600.0,
];

/// What becomes of messages here.
const OUTCOMES: [&str; 4] = ["stored", "duplicate", "retried", "dead_lettered"];

/// What can be in a lane's way.
const CAUSES: [(Kind, &str); 4] = [
    (Kind::Queue, "queue"),
    (Kind::Table, "table"),
    (Kind::Delivery, "delivery"),
    (Kind::Letters, "letters"),
];

/// The daemon's instruments.
#[derive(Clone, Debug)]
pub(crate) struct Instruments {
    messages: Counter<u64>,
    batch_messages: Histogram<f64>,
    commit_duration: Histogram<f64>,
    latency: Histogram<f64>,
    restarts: Counter<u64>,
}

impl Instruments {
    /// Makes them. What lanes do is read off `board` when somebody asks, by tenant if `per_tenant`.
    pub(crate) fn new(metrics: &Metrics, board: Arc<Board>, per_tenant: bool) -> Self {
        let meter = metrics.meter();
        let histogram = |name, description, boundaries: &[f64]| {
            meter
                .f64_histogram(name)
                .with_description(description)
                .with_boundaries(boundaries.to_vec())
                .build()
        };
        // The SDK keeps the callbacks.
        let shown = Arc::clone(&board);
        let _ = meter
            .f64_observable_gauge("jalur_oldest_unstored_seconds")
            .with_description("Age of the oldest message that this daemon holds to store")
            .with_callback(move |gauge| {
                let now = SystemTime::now();
                let ages = shown
                    .lanes()
                    .into_iter()
                    .map(|(tenant, lane)| (tenant, age(&lane, now)));
                if per_tenant {
                    ages.for_each(|(tenant, age)| {
                        gauge.observe(age, &[KeyValue::new("tenant_id", tenant.to_string())]);
                    });
                } else {
                    gauge.observe(ages.map(|(_, age)| age).fold(0.0, f64::max), &[]);
                }
            })
            .build();
        let shown = Arc::clone(&board);
        let _ = meter
            .u64_observable_gauge("jalur_holds")
            .with_description(
                "Lanes of this daemon that cannot store, or cannot consume, by what is in the way",
            )
            .with_callback(move |gauge| {
                let lanes = shown.lanes();
                for (kind, cause) in CAUSES {
                    let held = lanes.iter().filter(|(_, lane)| {
                        lane.problem.as_ref().is_some_and(|problem| problem.kind == kind)
                    });
                    gauge.observe(held.count() as u64, &[KeyValue::new("cause", cause)]);
                }
            })
            .build();
        let _ = meter
            .u64_observable_gauge("jalur_workers")
            .with_description("Workers of the lanes that this daemon runs")
            .with_callback(move |gauge| {
                let lanes = board.lanes();
                if per_tenant {
                    for (tenant, lane) in lanes {
                        let tenant = KeyValue::new("tenant_id", tenant.to_string());
                        for (state, workers) in by_state(&lane) {
                            gauge.observe(workers, &[tenant.clone(), KeyValue::new("state", state)]);
                        }
                    }
                } else {
                    let (mut busy, mut idle) = (0, 0);
                    for (_, lane) in lanes {
                        let [(_, lane_busy), (_, lane_idle)] = by_state(&lane);
                        busy += lane_busy;
                        idle += lane_idle;
                    }
                    gauge.observe(busy, &[KeyValue::new("state", "busy")]);
                    gauge.observe(idle, &[KeyValue::new("state", "idle")]);
                }
            })
            .build();
        let messages = meter
            .u64_counter("jalur_messages")
            .with_description("Messages by what became of them")
            .build();
        let restarts = meter
            .u64_counter("jalur_lane_restarts")
            .with_description("Lanes restarted since messages waited and none was delivered")
            .build();
        // There from the start, for whoever watches them grow.
        for outcome in OUTCOMES {
            messages.add(0, &[KeyValue::new("outcome", outcome)]);
        }
        restarts.add(0, &[]);
        Self {
            messages,
            restarts,
            batch_messages: histogram(
                "jalur_batch_messages",
                "Messages of one commit",
                &BATCH_BOUNDARIES,
            ),
            commit_duration: histogram(
                "jalur_commit_duration_seconds",
                "Time of one commit",
                &COMMIT_BOUNDARIES,
            ),
            latency: histogram(
                "jalur_delivery_latency_seconds",
                "From publish, or from delivery where the publisher gave no time, to commit",
                &LATENCY_BOUNDARIES,
            ),
        }
    }

    /// A transaction was committed.
    pub(crate) fn committed(&self, messages: usize, duration: Duration) {
        self.batch_messages.record(messages as f64, &[]);
        self.commit_duration.record(duration.as_secs_f64(), &[]);
    }

    /// Messages were stored, or had been before.
    pub(crate) fn stored(&self, outcome: &Outcome) {
        let now = SystemTime::now();
        for settled in &outcome.settled {
            let stored = settled.stored.len().saturating_sub(settled.duplicates);
            self.count("stored", stored as u64);
            self.count("duplicate", settled.duplicates as u64);
            for message in &settled.stored {
                // A publisher's clock may be ahead of ours.
                let latency = now.duration_since(message.since).unwrap_or_default();
                self.latency.record(latency.as_secs_f64(), &[]);
            }
        }
    }

    /// A message was dead-lettered.
    pub(crate) fn dead_lettered(&self) {
        self.count("dead_lettered", 1);
    }

    /// A lane was restarted.
    pub(crate) fn restarted(&self) {
        self.restarts.add(1, &[]);
    }

    /// A message was refused, and will be tried again.
    pub(crate) fn retried(&self) {
        self.count("retried", 1);
    }

    fn count(&self, outcome: &'static str, count: u64) {
        if count > 0 {
            self.messages.add(count, &[KeyValue::new("outcome", outcome)]);
        }
    }
}

/// How long ago, in seconds, the oldest message was published that the lane is to store. A publisher's clock may be ahead
/// of ours.
fn age(lane: &Observed, now: SystemTime) -> f64 {
    let age = lane.oldest.and_then(|oldest| now.duration_since(oldest).ok());
    age.unwrap_or_default().as_secs_f64()
}

fn by_state(lane: &Observed) -> [(&'static str, u64); 2] {
    let busy = lane.busy.min(lane.workers);
    [("busy", busy.into()), ("idle", (lane.workers - busy).into())]
}

#[cfg(test)]
mod tests {
    use common::id::TenantId;
    use uuid::Uuid;

    use super::*;
    use crate::lane::Standing;

    fn rendered(per_tenant: bool) -> String {
        let (metrics, board) = (Metrics::new().unwrap(), Arc::new(Board::default()));
        let _instruments = Instruments::new(&metrics, Arc::clone(&board), per_tenant);
        let lane = Observed {
            revision: 1,
            state: Standing::Running,
            workers: 3,
            busy: 1,
            held: 9,
            oldest: Some(SystemTime::now() - Duration::from_secs(60)),
            problem: None,
            message_bytes: None,
        };
        board.set(TenantId(Uuid::from_u128(1)), lane.clone());
        board.set(TenantId(Uuid::from_u128(2)), lane);
        metrics.render().unwrap()
    }

    #[test]
    fn workers_are_shown_by_tenant_and_state() {
        let text = rendered(true);
        assert!(
            text.contains(
                r#"jalur_workers{state="busy",tenant_id="00000000-0000-0000-0000-000000000001"} 1"#
            ),
            "{text}"
        );
        assert!(text.contains(r#"state="idle",tenant_id="00000000-0000-0000-0000-000000000002"} 2"#));
        assert!(
            text.contains(
                r#"jalur_oldest_unstored_seconds{tenant_id="00000000-0000-0000-0000-000000000001"} 60."#
            ),
            "{text}"
        );
        assert!(text.contains(r#"jalur_holds{cause="table"} 0"#), "{text}");
        assert!(
            text.contains(r#"jalur_messages_total{outcome="retried"} 0"#),
            "{text}"
        );
    }

    #[test]
    fn series_per_tenant_can_be_turned_off() {
        let text = rendered(false);
        assert!(
            text.contains(r#"jalur_workers{state="idle"} 4"#) && !text.contains("tenant_id"),
            "{text}"
        );
    }
}
