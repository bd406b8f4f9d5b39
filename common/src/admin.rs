//! The listener for operators: `/livez`, `/readyz`, `/metrics`.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use axum::{Router, http::StatusCode, response::IntoResponse, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{listener, telemetry::Metrics};

/// Answers whether the program can do its work: `Err` says in words what it waits for.
#[derive(Clone)]
pub struct Readiness(Arc<dyn Fn() -> Check + Send + Sync>);

type Check = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

impl Readiness {
    /// A check that is made for every request.
    pub fn new<F>(check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(check())))
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Readiness")
    }
}

/// Serves the admin listener until `close`. From `stop` on the program says that it is not ready.
pub async fn serve(
    listener: TcpListener,
    readiness: Readiness,
    metrics: Metrics,
    stop: CancellationToken,
    close: CancellationToken,
) {
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route(
            "/readyz",
            get(
                async move || match stop.run_until_cancelled((readiness.0)()).await {
                    Some(Ok(())) => (StatusCode::OK, "ok\n".to_owned()),
                    Some(Err(waiting)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{waiting}\n")),
                    None => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned()),
                },
            ),
        )
        .route(
            "/metrics",
            get(async move || match metrics.render() {
                Ok(text) => (
                    [("content-type", "text/plain; version=0.0.4; charset=utf-8")],
                    text,
                )
                    .into_response(),
                Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
            }),
        );
    // In clear, wherever it listens: it tells no secrets, and is meant for probes and Prometheus.
    listener::serve(listener, None, router, close).await;
}
