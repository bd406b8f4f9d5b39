//! Where traces and metrics are sent: what the standard `OTEL_…` variables say, and nowhere where they say nothing.
//!
//! The exporters read their own variables (endpoints, headers, timeouts), the SDK those of sampling and batching. What is
//! decided here is whether anything is sent at all, and over which TLS.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    resource::{EnvResourceDetector, TelemetryResourceDetector},
};
use uuid::Uuid;

use super::Error;
use crate::{causes::with_causes, config::ClientTls, tls};

/// How long a collector may take to be connected to. How long an export may take is `OTEL_EXPORTER_OTLP_TIMEOUT`'s.
const CONNECT: Duration = Duration::from_secs(2);
/// That, where it says nothing.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The one protocol.
const PROTOCOL: &str = "http/protobuf";

/// The environment, or what stands for it in a test.
pub(super) type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What the environment wants to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) traces: bool,
    pub(super) metrics: bool,
}

impl Wanted {
    /// A signal is sent where an endpoint is named, or its exporter is.
    pub(super) fn read(variable: Variable<'_>) -> Result<Self, Error> {
        let disabled = variable("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let wanted = |signal: &str| {
            let name = format!("OTEL_{signal}_EXPORTER");
            let own = format!("OTEL_EXPORTER_OTLP_{signal}");
            let wanted = match variable(&name).as_deref() {
                None => ["OTEL_EXPORTER_OTLP_ENDPOINT", &format!("{own}_ENDPOINT")]
                    .iter()
                    .any(|name| variable(name).is_some()),
                Some("otlp") => true,
                Some("none") => false,
                Some(other) => {
                    return Err(Error::Variable(
                        name,
                        format!("must be otlp or none, got {other:?}"),
                    ));
                }
            };
            let protocol = format!("{own}_PROTOCOL");
            for name in [protocol.as_str(), "OTEL_EXPORTER_OTLP_PROTOCOL"] {
                match variable(name) {
                    Some(other) if wanted && !disabled && other != PROTOCOL => {
                        let problem = format!(
                            "must be {PROTOCOL}, got {other:?}: a collector takes it on port 4318, unless told otherwise"
                        );
                        return Err(Error::Variable(name.to_owned(), problem));
                    }
                    _ => {}
                }
            }
            Ok(wanted && !disabled)
        };
        Ok(Self {
            traces: wanted("TRACES")?,
            metrics: wanted("METRICS")?,
        })
    }
}

/// The exporters that are wanted. Not to be made within a runtime: they wait in threads of their own.
pub(super) struct Exporters {
    pub(super) spans: Option<SpanExporter>,
    pub(super) metrics: Option<MetricExporter>,
}

impl Exporters {
    pub(super) fn new(wanted: Wanted, variable: Variable<'_>) -> Result<Self, Error> {
        let spans = wanted.traces.then(|| {
            let client = client("TRACES", variable)?;
            let exporter = SpanExporter::builder().with_http().with_http_client(client);
            exporter.build().map_err(Error::Otlp)
        });
        let metrics = wanted.metrics.then(|| {
            let client = client("METRICS", variable)?;
            let exporter = MetricExporter::builder().with_http().with_http_client(client);
            exporter.build().map_err(Error::Otlp)
        });
        Ok(Self {
            spans: spans.transpose()?,
            metrics: metrics.transpose()?,
        })
    }
}

/// Who sends it. What the operator says comes last, and so counts.
pub(super) fn resource(service: &'static str, variable: Variable<'_>) -> Resource {
    let resource = Resource::builder_empty()
        .with_service_name(service)
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", Uuid::new_v4().to_string()),
        ])
        .with_detectors(&[
            Box::new(TelemetryResourceDetector),
            Box::new(EnvResourceDetector::new()),
        ]);
    match variable("OTEL_SERVICE_NAME") {
        Some(name) => resource.with_service_name(name),
        None => resource,
    }
    .build()
}

/// A client with the TLS of all others here, and the files that the environment names for it.
fn client(signal: &str, variable: Variable<'_>) -> Result<reqwest::blocking::Client, Error> {
    let own = |name: &str| {
        let (own, all) = (
            format!("OTEL_EXPORTER_OTLP_{signal}_{name}"),
            format!("OTEL_EXPORTER_OTLP_{name}"),
        );
        variable(&own)
            .map(|value| (own, value))
            .or_else(|| variable(&all).map(|value| (all, value)))
    };
    let timeout = match own("TIMEOUT") {
        None => TIMEOUT,
        Some((name, text)) => text
            .parse()
            .map(Duration::from_millis)
            .map_err(|_| Error::Variable(name, format!("must be a number of milliseconds, got {text:?}")))?,
    };
    let file = |name: &str| own(name).map(|(_, file)| file).unwrap_or_default();
    let files = ClientTls {
        ca_file: file("CERTIFICATE"),
        cert_file: file("CLIENT_CERTIFICATE"),
        key_file: file("CLIENT_KEY"),
    };
    let config = tls::Client::new("OTEL_EXPORTER_OTLP", &files).and_then(|client| client.configured());
    reqwest::blocking::Client::builder()
        .tls_backend_preconfigured(config.map_err(Error::Tls)?)
        .connect_timeout(CONNECT)
        .timeout(timeout)
        .user_agent(concat!("jalur/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| Error::Client(with_causes(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(variables: &[(&str, &str)]) -> Result<(bool, bool), String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let wanted = Wanted::read(&variable).map_err(|error| error.to_string())?;
        Ok((wanted.traces, wanted.metrics))
    }

    #[test]
    fn nothing_is_sent_unless_the_environment_says_so() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        assert_eq!(wanted(&[]), Ok((false, false)));
        assert_eq!(wanted(&[endpoint]), Ok((true, true)));
        assert_eq!(
            wanted(&[endpoint, ("OTEL_METRICS_EXPORTER", "none")]),
            Ok((true, false))
        );
        assert_eq!(
            wanted(&[endpoint, ("OTEL_SDK_DISABLED", "true")]),
            Ok((false, false))
        );
        assert_eq!(wanted(&[("OTEL_TRACES_EXPORTER", "otlp")]), Ok((true, false)));
        let own = (
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
            "http://collector:4318/v1/metrics",
        );
        assert_eq!(wanted(&[own]), Ok((false, true)));
    }

    #[test]
    fn what_cannot_be_is_named() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");
        for (variables, named) in [
            (
                vec![("OTEL_TRACES_EXPORTER", "zipkin")],
                "OTEL_TRACES_EXPORTER must be otlp or none",
            ),
            (
                vec![endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
                "OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf, got \"grpc\"",
            ),
            (
                vec![endpoint, ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/json")],
                "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL must be",
            ),
        ] {
            let error = wanted(&variables).unwrap_err();
            assert!(error.starts_with(named), "{error}");
        }
        // Where nothing is sent, nobody minds how.
        assert_eq!(
            wanted(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]),
            Ok((false, false))
        );
    }
}
