//! The one way in: finds the method, checks the caller, and hands over to gRPC or to REST.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{Router, body::Body, middleware, response::Response};
use futures::future::BoxFuture;
use http::{HeaderMap, Request, header::CONTENT_TYPE};
use opentelemetry::metrics::Meter;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tower::Service;

use super::{browsers, gone, grpc, metrics::Metrics, rest, routes};
use crate::{
    audit::Audit,
    identity::{Caller, Keys},
    limits::Callers,
    memory::Memory,
    offload::Offload,
};

/// The largest message that is read from somebody without a token: a name, or a credential.
pub const PUBLIC_MESSAGE_BYTES: usize = 16 << 10;
/// How many calls for a token may be under way, most of which wait for their bodies.
const TOKEN_CALLS_MAX: usize = 1_000;

/// The gateway as a service. It answers every request, errors included.
#[derive(Clone, Debug)]
pub struct Front {
    inner: Router,
    shared: Arc<Shared>,
}

/// What a gateway is made with.
#[derive(Clone, Debug)]
pub struct Options {
    /// What tokens are checked with.
    pub keys: Keys,
    /// The most bytes of a request's body that are taken.
    pub body_bytes_max: usize,
    /// What all requests hold is counted there.
    pub memory: Memory,
    /// Where large bodies are read.
    pub offload: Offload,
    /// Where calls that change something are written down.
    pub audit: Audit,
    /// What each caller may do.
    pub(crate) callers: Callers,
    /// Ends the streams of reflection and health.
    pub closing: CancellationToken,
}

/// What every request needs.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) keys: Keys,
    /// The most bytes of a request's body.
    pub(super) body_bytes_max: usize,
    pub(super) memory: Memory,
    pub(super) offload: Offload,
    pub(super) audit: Audit,
    pub(super) callers: Callers,
    pub(super) metrics: Metrics,
    /// Ends the streams that have no end of their own.
    pub(super) closing: CancellationToken,
    /// Places for calls that nobody has to be known for.
    pub(super) public_calls: Arc<Semaphore>,
    /// And for those that only ask how it is, which are short.
    pub(super) health_checks: Arc<Semaphore>,
    /// And for those that ask for a token.
    pub(super) token_calls: Arc<Semaphore>,
}

impl Shared {
    /// The most bytes of a body that are read for somebody.
    pub(super) fn bytes_max(&self, caller: Option<&Caller>) -> usize {
        match caller {
            Some(_) => self.body_bytes_max,
            None => self.body_bytes_max.min(PUBLIC_MESSAGE_BYTES),
        }
    }
}

impl Front {
    /// A gateway to `inner`, the generated gRPC servers with reflection and health.
    ///
    /// # Panics
    ///
    /// If the protos say of REST what the gateway does not understand, which no release does: the tests see to it.
    pub fn new(inner: Routes, options: Options, meter: &Meter) -> Self {
        let Options {
            keys,
            body_bytes_max,
            memory,
            offload,
            audit,
            callers,
            closing,
        } = options;
        // Now, and not with the first request.
        routes::find("/");
        Self {
            inner: inner
                .prepare()
                .into_axum_router()
                .layer(middleware::from_fn(gone::look)),
            shared: Arc::new(Shared {
                keys,
                body_bytes_max,
                memory,
                offload,
                audit,
                callers,
                metrics: Metrics::new(meter),
                closing,
                public_calls: Arc::new(Semaphore::new(grpc::PUBLIC_CALLS_MAX)),
                health_checks: Arc::new(Semaphore::new(grpc::PUBLIC_CALLS_MAX)),
                token_calls: Arc::new(Semaphore::new(TOKEN_CALLS_MAX)),
            }),
        }
    }
}

impl Service<Request<Body>> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    /// Always: what limits there are stand at the listener.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Self { inner, shared } = self.clone();
        Box::pin(async move {
            Ok(if browsers::is_grpc_web(request.headers()) {
                let grpc = |request| {
                    let (shared, inner) = (Arc::clone(&shared), inner.clone());
                    async move { grpc::serve(&shared, inner, request).await }
                };
                browsers::grpc_web(request, grpc).await
            } else if is_grpc(request.headers()) {
                grpc::serve(&shared, inner, request).await
            } else {
                rest::serve(&shared, inner, request).await
            })
        })
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}
