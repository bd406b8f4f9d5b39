//! What every program says of itself.

use opentelemetry::{KeyValue, metrics::Meter};

/// `jalur_build_info`: which program of which version this is.
pub fn build_info(meter: &Meter, program: &'static str, version: &'static str) {
    let labels = [
        KeyValue::new("program", program),
        KeyValue::new("version", version),
    ];
    // The meter keeps the callback; the instrument itself is not needed.
    let _ = meter
        .u64_observable_gauge("jalur_build_info")
        .with_description("Which program of which version this is; always 1")
        .with_callback(move |gauge| gauge.observe(1, &labels))
        .build();
}

/// A gauge that is 1 while `holds`, and 0 otherwise.
pub fn up(
    meter: &Meter,
    name: &'static str,
    description: &'static str,
    holds: impl Fn() -> bool + Send + Sync + 'static,
) {
    let _ = meter
        .u64_observable_gauge(name)
        .with_description(description)
        .with_callback(move |gauge| gauge.observe(holds().into(), &[]))
        .build();
}
