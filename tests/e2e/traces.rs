//! Traces and metrics for a collector: what an operator with OpenTelemetry sees of a message.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Router, body::Bytes, extract::State, routing::post};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{Span, status::StatusCode},
};
use prost::Message as _;
use serde_json::json;
use tests::load::Publisher;
use tokio::{net::TcpListener, task::JoinSet};

use crate::support::{Options, Stack, eventually};

/// What a collector was sent: each span, with the service that it is of, and the metrics' names.
#[derive(Clone, Debug, Default)]
struct Sent {
    spans: Arc<Mutex<Vec<(String, Span)>>>,
    metrics: Arc<Mutex<Vec<(String, String)>>>,
}

struct Collector {
    sent: Sent,
    url: String,
    _serving: JoinSet<()>,
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|found| found.value.as_ref()?.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        other => other.map(|value| format!("{value:?}")).unwrap_or_default(),
    }
}

fn service(resource: Option<Resource>) -> String {
    text(&resource.unwrap_or_default().attributes, "service.name")
}

impl Collector {
    async fn start() -> Self {
        let sent = Sent::default();
        let traces = async |State(sent): State<Sent>, body: Bytes| {
            let request = ExportTraceServiceRequest::decode(body).unwrap();
            for of in request.resource_spans {
                let service = service(of.resource);
                let spans = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
                let mut known = sent.spans.lock().unwrap();
                known.extend(spans.map(|span| (service.clone(), span)));
            }
        };
        let metrics = async |State(sent): State<Sent>, body: Bytes| {
            let request = ExportMetricsServiceRequest::decode(body).unwrap();
            for of in request.resource_metrics {
                let service = service(of.resource);
                let metrics = of.scope_metrics.into_iter().flat_map(|scope| scope.metrics);
                let mut known = sent.metrics.lock().unwrap();
                known.extend(metrics.map(|metric| (service.clone(), metric.name)));
            }
        };
        let router = Router::new()
            .route("/v1/traces", post(traces))
            .route("/v1/metrics", post(metrics))
            .with_state(sent.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            sent,
            url,
            _serving: serving,
        }
    }

    /// The trace's spans by name, once all of these are there.
    async fn spans(&self, trace: u128, names: &[(&str, usize)]) -> Vec<(String, Span)> {
        let mut spans = Vec::new();
        eventually(&format!("the trace has {names:?}"), async || {
            let known = self.sent.spans.lock().unwrap();
            let of_trace = known
                .iter()
                .filter(|(_, span)| span.trace_id == trace.to_be_bytes());
            spans = of_trace.cloned().collect();
            let count = |name: &str| spans.iter().filter(|(_, span)| span.name == name).count();
            names.iter().all(|(name, wanted)| count(name) == *wanted)
        })
        .await;
        spans
    }
}

fn parent(trace: u128, flags: &str) -> String {
    format!("00-{trace:032x}-00f067aa0ba902b7-{flags}")
}

fn traced(trace: u128, flags: &str) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(
        "traceparent".into(),
        AMQPValue::LongString(parent(trace, flags).into()),
    );
    BasicProperties::default().with_headers(headers)
}

fn named<'a>(spans: &'a [(String, Span)], name: &str) -> &'a (String, Span) {
    spans.iter().find(|(_, span)| span.name == name).unwrap()
}

#[tokio::test]
async fn a_message_is_one_trace_from_its_publishing_to_its_commit() {
    let collector = Collector::start().await;
    let stack = Stack::start(Options {
        env: vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.clone()),
            ("OTEL_BSP_SCHEDULE_DELAY", "100".into()),
            ("OTEL_METRIC_EXPORT_INTERVAL", "500".into()),
        ],
        ..Options::default()
    })
    .await;
    let tenant = stack.tenant("traced").await;

    // Over REST, three in a call.
    let trace = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
    let body = json!({ "messages": [{ "payload": 1 }, { "payload": 2 }, { "payload": 3 }] });
    let answer = local::http::client()
        .post(format!("{}/api/tenants/{tenant}/messages", stack.url()))
        .bearer_auth(stack.admin())
        .header("traceparent", parent(trace, "01"))
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let spans = collector.spans(trace, &[("publish", 1), ("process", 3)]).await;
    let (service, call) = named(&spans, "jalur.v1.MessageService/PublishMessages");
    assert_eq!(service, "jalur-control-plane");
    assert_eq!(call.parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert_eq!(
        text(&call.attributes, "url.path"),
        format!("/api/tenants/{tenant}/messages")
    );
    let (_, publish) = named(&spans, "publish");
    assert_eq!(publish.parent_span_id, call.span_id);
    let processes = spans.iter().filter(|(_, span)| span.name == "process");
    let mut commits = 0;
    for (service, process) in processes {
        assert_eq!(service, "jalur-ingest-daemon");
        assert_eq!(process.parent_span_id, publish.span_id);
        assert_eq!(
            text(&process.attributes, "messaging.destination.name"),
            tenant.queue()
        );
        assert!(process.end_time_unix_nano >= process.start_time_unix_nano);
        let of_it =
            |(_, span): &&(String, Span)| span.name == "commit" && span.parent_span_id == process.span_id;
        match spans.iter().find(of_it) {
            Some((_, commit)) => commits += 1 + commit.links.len(),
            None => assert_eq!(process.links.len(), 1, "its commit's"),
        }
    }
    assert_eq!(commits, 3, "each is in a commit, or linked to it: {spans:?}");

    // Over AMQP; what is not sampled is in nobody's way.
    let (one, unsampled) = (trace + 1, trace + 2);
    let mut publisher = Publisher::new(stack.amqp_url());
    publisher
        .send_one(tenant, b"4", traced(unsampled, "00"))
        .await
        .unwrap();
    publisher.send_one(tenant, b"5", traced(one, "01")).await.unwrap();
    collector.spans(one, &[("process", 1), ("commit", 1)]).await;
    // One that fails says why, and a replay of it is in the same trace.
    let poison = trace + 3;
    publisher
        .send_one(tenant, b"no json", traced(poison, "01"))
        .await
        .unwrap();
    let spans = collector.spans(poison, &[("process", 1)]).await;
    let (_, failed) = named(&spans, "process");
    assert_eq!(text(&failed.attributes, "jalur.reason"), "not_json");
    assert_eq!(text(&failed.attributes, "jalur.outcome"), "dead_lettered");
    let status = failed.status.clone().unwrap();
    assert!(
        status.code() == StatusCode::Error && status.message.contains("not JSON"),
        "{status:?}"
    );
    assert!(collector.spans(unsampled, &[]).await.is_empty());

    for wanted in [
        ("jalur-control-plane", "jalur_rpc_duration_seconds"),
        ("jalur-ingest-daemon", "jalur_messages"),
    ] {
        eventually("the collector has both programs' metrics", async || {
            let metrics = collector.sent.metrics.lock().unwrap();
            metrics
                .iter()
                .any(|(service, name)| (service.as_str(), name.as_str()) == wanted)
        })
        .await;
    }
}

#[tokio::test]
async fn a_collector_that_is_away_delays_nothing_and_no_stop() {
    // It takes connections, and answers nobody.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let stack = Stack::start(Options {
        env: vec![("OTEL_EXPORTER_OTLP_ENDPOINT", url)],
        ..Options::default()
    })
    .await;
    let tenant = stack.tenant("untold").await;
    let mut publisher = Publisher::new(stack.amqp_url());
    for number in 0..20_u32 {
        let body = number.to_string();
        let properties = traced(u128::from(number) + 1, "01");
        publisher
            .send_one(tenant, body.as_bytes(), properties)
            .await
            .unwrap();
    }
    stack.stored(tenant, 20).await;
    let began = Instant::now();
    assert!(stack.daemon().terminate().await.success());
    let took = began.elapsed();
    assert!(took < Duration::from_secs(15), "it took {took:?} to stop");
}
