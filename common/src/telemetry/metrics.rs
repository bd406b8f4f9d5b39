//! Metrics: OpenTelemetry instruments, read out as Prometheus text, and sent to a collector if there is one.

use std::time::Duration;

use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry_otlp::MetricExporter;
use opentelemetry_sdk::{
    Resource,
    metrics::{Instrument, InstrumentKind, PeriodicReader, SdkMeterProvider, Stream},
};
use prometheus::{Registry, TextEncoder};

use super::Error;

/// The most series of what is observed: two for each of 25,000 tenants. Its table is made for as many, about 5 MB.
const SERIES_MAX: usize = 50_000;

/// A program's instruments, and their text. A value and no global, so that two programs can share a process.
#[derive(Clone, Debug)]
pub struct Metrics {
    provider: SdkMeterProvider,
    registry: Registry,
}

impl Metrics {
    /// An empty set. Instruments made from [`Metrics::meter`] show up under the names they were given: no unit or
    /// scope is added, only `_total` to counters.
    pub fn new() -> Result<Self, Error> {
        Self::exporting(None, Resource::builder_empty().build())
    }

    /// The same, which `exporter` sends now and then.
    pub(super) fn exporting(exporter: Option<MetricExporter>, resource: Resource) -> Result<Self, Error> {
        let registry = Registry::new();
        // It reads /proc.
        #[cfg(target_os = "linux")]
        registry.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))?;
        let prometheus = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_units()
            .without_target_info()
            .scope_info_enabled(false)
            .build()?;
        // Gauges per tenant have more series than OpenTelemetry's limit of 2,000, beyond which it adds them up in one.
        let many_series = |instrument: &Instrument| match instrument.kind() {
            InstrumentKind::ObservableGauge | InstrumentKind::ObservableCounter => {
                Stream::builder().with_cardinality_limit(SERIES_MAX).build().ok()
            }
            _ => None,
        };
        let mut provider = SdkMeterProvider::builder()
            .with_reader(prometheus)
            .with_view(many_series)
            .with_resource(resource);
        if let Some(exporter) = exporter {
            // How often is the environment's: OTEL_METRIC_EXPORT_INTERVAL.
            provider = provider.with_reader(PeriodicReader::builder(exporter).build());
        }
        Ok(Self {
            provider: provider.build(),
            registry,
        })
    }

    /// Where instruments are made.
    pub fn meter(&self) -> Meter {
        self.provider.meter("jalur")
    }

    /// Sends what is left to be sent, if it can be within `patience`. Blocks.
    pub(super) fn close(&self, patience: Duration) {
        if let Err(error) = self.provider.shutdown_with_timeout(patience) {
            tracing::warn!(%error, "the last metrics could not be sent");
        }
    }

    /// The Prometheus text of everything.
    pub fn render(&self) -> Result<String, Error> {
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::KeyValue;

    use super::*;

    #[test]
    fn instruments_show_under_their_own_names() {
        let metrics = Metrics::new().unwrap();
        metrics
            .meter()
            .u64_counter("jalur_messages")
            .build()
            .add(2, &[KeyValue::new("outcome", "stored")]);
        metrics
            .meter()
            .f64_histogram("jalur_commit_duration_seconds")
            .with_unit("s")
            .build()
            .record(0.5, &[]);
        let text = metrics.render().unwrap();
        assert!(
            text.contains(r#"jalur_messages_total{outcome="stored"} 2"#),
            "{text}"
        );
        assert!(text.contains("jalur_commit_duration_seconds_count 1"), "{text}");
    }

    #[test]
    fn a_gauge_has_a_series_for_each_of_many_tenants() {
        let metrics = Metrics::new().unwrap();
        let meter = metrics.meter();
        let gauge = meter
            .i64_observable_gauge("jalur_queue_depth")
            .with_callback(|observer| {
                (0..5_000).for_each(|tenant| observer.observe(tenant, &[KeyValue::new("tenant_id", tenant)]));
            });
        let _ = gauge.build();
        let text = metrics.render().unwrap();
        assert_eq!(
            text.lines()
                .filter(|line| line.starts_with("jalur_queue_depth{"))
                .count(),
            5_000
        );
        assert!(!text.contains("overflow"));
    }
}
