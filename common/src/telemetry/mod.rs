//! Logs on standard error, metrics for Prometheus; both metrics and traces for a collector, if there is one.

mod metrics;
mod otlp;
mod standing;
pub mod traces;

use std::time::{Duration, Instant};

use opentelemetry_otlp::ExporterBuildError;
use tracing_subscriber::EnvFilter;

use self::otlp::{Exporters, Wanted};
pub use self::{
    metrics::Metrics,
    standing::{build_info, up},
    traces::Traces,
};
use crate::config::{self, Log, LogFormat};

/// How long the last spans and metrics may take to be sent when a program ends.
const LAST: Duration = Duration::from_secs(3);

/// Why there is no telemetry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The exporter refused its configuration.
    #[error("metrics: {0}")]
    Exporter(#[from] opentelemetry_sdk::error::OTelSdkError),
    /// The text could not be written.
    #[error("metrics: {0}")]
    Encode(#[from] prometheus::Error),
    /// A variable of the environment says what cannot be.
    #[error("{0} {1}")]
    Variable(String, String),
    /// OTLP's exporter refused what the environment says.
    #[error("OTLP: {0}")]
    Otlp(#[source] ExporterBuildError),
    /// There is no TLS for it.
    #[error("OTLP: {0}")]
    Tls(#[source] config::Error),
    /// There is no client for it.
    #[error("OTLP: {0}")]
    Client(String),
}

/// What a program measures, and tells of what it does. Values and no globals, so that two programs can share a process.
#[derive(Debug)]
pub struct Telemetry {
    /// Its instruments.
    pub metrics: Metrics,
    /// Its spans.
    pub traces: Traces,
}

impl Telemetry {
    /// What the environment wants; `service` is the program's name there, unless the environment has another. Not within a
    /// runtime: what is sent is sent by threads.
    pub fn from_env(service: &'static str) -> Result<Self, Error> {
        // An empty one is as none, says the specification.
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let exporters = Exporters::new(Wanted::read(&variable)?, &variable)?;
        let resource = otlp::resource(service, &variable);
        Ok(Self {
            metrics: Metrics::exporting(exporters.metrics, resource.clone())?,
            traces: Traces::new(exporters.spans, resource),
        })
    }

    /// Sends what is left to be sent, for a moment. Blocks.
    pub fn close(&self) {
        let began = Instant::now();
        self.traces.close(LAST);
        self.metrics.close(LAST.saturating_sub(began.elapsed()));
    }
}

/// Starts logging. Once per process; where a subscriber is there already, that one stays.
pub fn init(config: &Log) -> Result<(), config::Error> {
    let filter = EnvFilter::try_new(&config.filter)
        .map_err(|error| config::Error::key("log.filter", format!("{:?}: {error}", config.filter)))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let result = match config.format {
        LogFormat::Text => builder.with_target(false).with_ansi(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    if let Err(error) = result {
        tracing::debug!(%error, "logging was set up before");
    }
    Ok(())
}
