//! Ingest of messages that their publisher traces, one in a hundred of them sampled, with a collector and without.

use axum::{Router, body::Bytes, routing::post};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use tests::{
    Options, Stack,
    bench::{Report, Series, Target},
};
use tokio::{net::TcpListener, task::JoinSet};
use uuid::Uuid;

use crate::{fill, ground::Ground, plan::Plan};

const BYTES: usize = 256;
/// Of so many messages one is sampled.
const SAMPLED: usize = 100;

pub(crate) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let without = Ground::start(1).await?;
    let mut collecting = JoinSet::new();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let collector = format!("http://{}", listener.local_addr()?);
    let anything = post(async |_: Bytes| ());
    let router = Router::new()
        .route("/v1/traces", anything.clone())
        .route("/v1/metrics", anything);
    collecting.spawn(async move { axum::serve(listener, router).await });
    let options = Options {
        env: vec![("OTEL_EXPORTER_OTLP_ENDPOINT", collector)],
        ..Options::default()
    };
    let with = Ground::with(Stack::start(options).await?).await?;
    let (mut off, mut on) = (Series::default(), Series::default());
    for n in 0..plan.rounds {
        eprintln!("traces, round {}", n + 1);
        off.push(take(&without, plan).await?);
        on.push(take(&with, plan).await?);
    }
    report.ratio(
        format!("one tenant, spans of one message in {SAMPLED} are sent"),
        on.rate(),
        format!("sent nowhere {}", off.rate()),
        on.over(&off).median(),
        Some(Target::AtLeast(0.98)),
    );
    Ok(())
}

async fn take(ground: &Ground, plan: &Plan) -> anyhow::Result<f64> {
    let tenant = ground.tenants("traced", 1, "paused").await?[0];
    let targets = fill::queues(&[tenant]);
    ground.settle().await?;
    fill::fill_with(&ground.amqp, &targets, plan.messages, BYTES, traced).await?;
    let rate = ground
        .pace(&[tenant], plan.messages, ground.activate(tenant))
        .await?;
    ground.delete(tenant).await?;
    Ok(rate)
}

fn traced(number: usize, id: Uuid) -> BasicProperties {
    let sampled = u8::from(number.is_multiple_of(SAMPLED));
    let parent = format!("00-{:032x}-{:016x}-{sampled:02x}", id.as_u128(), number + 1);
    let mut headers = FieldTable::default();
    headers.insert("traceparent".into(), AMQPValue::LongString(parent.into()));
    fill::properties(id).with_headers(headers)
}
