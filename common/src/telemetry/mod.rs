//! Logs on standard error, metrics for Prometheus.

mod metrics;
mod standing;

use tracing_subscriber::EnvFilter;

pub use self::{
    metrics::{Error, Metrics},
    standing::{build_info, up},
};
use crate::config::{self, Log, LogFormat};

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
