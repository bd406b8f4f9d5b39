//! The one way in: finds the method, checks the caller, and hands over to gRPC or to REST.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{Router, body::Body, response::Response};
use futures::future::BoxFuture;
use http::{HeaderMap, Request, header::CONTENT_TYPE};
use opentelemetry::metrics::Meter;
use tonic::{Status, service::Routes};
use tower::Service;

use super::{
    api,
    error::{code_in, conceal},
    metrics::{Metrics, UNKNOWN, Watched},
    rest, routes,
};
use crate::identity::{self, Keys, rules};

/// The gateway as a service. It answers every request, errors included.
#[derive(Clone, Debug)]
pub struct Front {
    inner: Router,
    shared: Arc<Shared>,
}

/// What every request needs.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) keys: Keys,
    /// The most bytes of a REST body.
    pub(super) body_bytes_max: usize,
    pub(super) metrics: Metrics,
}

impl Front {
    /// A gateway to `inner`, the generated gRPC servers with reflection and health. Of a REST request's body at most
    /// `body_bytes_max` bytes are read.
    ///
    /// # Panics
    ///
    /// If the protos say of REST what the gateway does not understand, which no release does: the tests see to it.
    pub fn new(inner: Routes, keys: Keys, body_bytes_max: usize, meter: &Meter) -> Self {
        // Now, and not with the first request.
        routes::find("/");
        Self {
            inner: inner.prepare().into_axum_router(),
            shared: Arc::new(Shared {
                keys,
                body_bytes_max,
                metrics: Metrics::new(meter),
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
            Ok(if is_grpc(request.headers()) {
                grpc(&shared, inner, request).await
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

async fn grpc(shared: &Shared, mut inner: Router, mut request: Request<Body>) -> Response {
    let path = request.uri().path();
    let method = api::method(path);
    let rule = rules::of(path);
    let name = match (method, rules::public_service(path)) {
        (Some(method), _) => method.name(),
        (None, Some(service)) => service,
        (None, None) => UNKNOWN,
    };
    let mut timer = shared.metrics.rpc(name);
    let authorized = match name {
        UNKNOWN => Err(Status::unimplemented("there is no such method")),
        name => identity::authorize(&shared.keys, rule, name, request.headers()),
    };
    match authorized {
        Ok(Some(caller)) => {
            request.extensions_mut().insert(caller);
        }
        Ok(None) => {}
        Err(status) => {
            timer.stop(status.code());
            return status.into_http();
        }
    }
    let mut response = match inner.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    // An error without an answer is all in the headers; otherwise the code comes with the trailers.
    if let Some(code) = code_in(response.headers()) {
        timer.stop(code);
        conceal(response.headers_mut(), name);
    } else if method.is_none_or(api::Method::is_streaming) {
        timer.stop(tonic::Code::Ok);
    }
    response.map(|body| Body::new(Watched::new(body, timer)))
}
