//! The instruments that the control plane's services write to.

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram, Meter},
};

/// The instruments.
#[derive(Clone, Debug)]
pub(crate) struct Instruments {
    /// `jalur_messages`, by outcome.
    pub(crate) messages: Counter<u64>,
    /// `jalur_config_propagation_seconds`.
    pub(crate) propagation: Histogram<f64>,
}

impl Instruments {
    pub(crate) fn new(meter: &Meter) -> Self {
        let messages = meter
            .u64_counter("jalur_messages")
            .with_description("Messages by what became of them")
            .build();
        // There from the start, for whoever watches it grow.
        messages.add(0, &[KeyValue::new("outcome", "published")]);
        Self {
            messages,
            propagation: meter
                .f64_histogram("jalur_config_propagation_seconds")
                .with_description("From a change of a tenant's workers to its being applied")
                .with_boundaries(vec![0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0])
                .build(),
        }
    }
}
