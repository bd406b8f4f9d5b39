//! A name for every request, by which its caller, the log and the audit trail mean the same one.
//!
//! tower-http has layers that make and return one, but they take any that is sent; what is left of them once that is
//! checked is less than the check.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use common::telemetry::{Traces, traces};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context, KeyValue,
    context::FutureExt as _,
    trace::{SpanBuilder, SpanKind, Status, TraceContextExt as _},
};
use tracing::{Instrument as _, Span, error_span, field::Empty};
use uuid::Uuid;

/// The header that carries it, both ways.
const NAME: HeaderName = HeaderName::from_static("x-request-id");
/// The longest that a caller may choose.
const LENGTH_MAX: usize = 128;

/// A request's id: the caller's own if that can stand anywhere without harm, else one of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    /// A new one.
    fn new() -> Self {
        let id = Uuid::now_v7().to_string();
        // A UUID is ASCII.
        Self(HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("unknown")))
    }

    fn given(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(NAME)?;
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let is_sane = (1..=LENGTH_MAX).contains(&value.len()) && value.as_bytes().iter().all(allowed);
        is_sane.then(|| Self(value.clone()))
    }

    /// The id of the request that these are from.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or_else(Self::new)
    }

    /// As text.
    pub(crate) fn as_str(&self) -> &str {
        // It is ASCII.
        self.0.to_str().unwrap_or_default()
    }
}

/// Names a request, whatever becomes of it: in its answer, and in every line that is logged while it is answered. Where
/// there are traces it is a span, of its caller's trace if it brings one.
pub(crate) async fn assign(State(traces): State<Traces>, mut request: Request, next: Next) -> Response {
    let id = RequestId::given(request.headers()).unwrap_or_else(RequestId::new);
    let context = traced(&traces, &request, &id);
    // Of the highest level, so that it is there wherever a line is.
    let span = error_span!(
        "request",
        request_id = id.as_str(),
        trace_id = Empty,
        method = Empty,
        sub = Empty
    );
    if let Some(trace_id) = traces::trace_id(&context) {
        span.record("trace_id", trace_id);
    }
    request.extensions_mut().insert(id.clone());
    let answering = next.run(request).instrument(span);
    let mut response = answering.with_context(context.clone()).await;
    let span = context.span();
    if span.is_recording() {
        let status = response.status();
        span.set_attribute(KeyValue::new(
            "http.response.status_code",
            i64::from(status.as_u16()),
        ));
        if status.is_server_error() {
            span.set_status(Status::error(""));
        }
    }
    response.headers_mut().insert(NAME, id.0);
    response
}

fn traced(traces: &Traces, request: &Request, id: &RequestId) -> Context {
    let came = traces::context_of(|name| request.headers().get(name)?.to_str().ok());
    if !traces.are_on() {
        return came;
    }
    let (verb, path) = (request.method().as_str(), request.uri().path());
    // What it calls is its name, once that is known; a path may hold anything.
    let span = SpanBuilder::from_name(verb.to_owned())
        .with_kind(SpanKind::Server)
        .with_attributes([
            KeyValue::new("http.request.method", verb.to_owned()),
            KeyValue::new("url.path", path.to_owned()),
            KeyValue::new("jalur.request_id", id.as_str().to_owned()),
        ]);
    traces.within(span, &came)
}

/// The method that the request under way calls is known.
pub(crate) fn calls(method: &'static str) {
    Span::current().record("method", method);
    Context::map_current(|context| context.span().update_name(method));
}

/// Who sent it is known.
pub(crate) fn is_from(subject: &str) {
    Span::current().record("sub", subject);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(value: &[u8]) -> Option<String> {
        let value = HeaderValue::from_bytes(value).unwrap();
        let id = RequestId::given(&HeaderMap::from_iter([(NAME, value)]))?;
        Some(id.as_str().to_owned())
    }

    #[test]
    fn a_callers_own_is_kept_if_it_can_stand_anywhere() {
        let longest = "x".repeat(LENGTH_MAX);
        for id in ["a", "0198c0de-0000-7000-8000-000000000001", "A.b_c-9", &longest] {
            assert_eq!(given(id.as_bytes()).as_deref(), Some(id));
        }
        let too_long = "x".repeat(LENGTH_MAX + 1);
        for id in ["", " ", "a b", "a\tb", "a\"b", "a/b", "a=b", "{}", &too_long] {
            assert_eq!(given(id.as_bytes()), None, "{id:?}");
        }
        assert_eq!(given("é".as_bytes()), None);
    }

    #[test]
    fn one_of_ours_is_new_each_time() {
        let (one, two) = (RequestId::new(), RequestId::new());
        assert_ne!(one, two);
        assert!(Uuid::try_parse(one.as_str()).is_ok());
    }
}
