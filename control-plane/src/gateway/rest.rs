//! One REST request, from its path to its answer.

use std::time::Duration;

use axum::{Router, body::Body, response::Response};
use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Method as Verb, Request, StatusCode,
    header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, EXPECT},
};
use http_body::Body as _;
use http_body_util::BodyExt;
use tonic::Code;

use super::{
    call,
    error::Error,
    front::Shared,
    metrics::UNKNOWN,
    routes::{self, Binding, Found},
    transcode,
};
use crate::identity;

/// The longest that a call may take, the reading of its body included. Longer than any method waits by itself.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How many times the largest body is read before its sender is cut off.
const PATIENCE: usize = 4;

/// Answers a request.
pub(super) async fn serve(shared: &Shared, inner: Router, request: Request<Body>) -> Response {
    let verb = request.method().clone();
    let path = request.uri().path().to_owned();
    let (route, response) = match routes::find(&path) {
        None => (UNKNOWN, Error::no_path(&path).into_response()),
        Some(found) => (found.template(), answer(shared, inner, request, &found).await),
    };
    shared.metrics.http(&verb, route, response.status());
    match verb {
        Verb::HEAD => without_body(response),
        _ => response,
    }
}

async fn answer(shared: &Shared, inner: Router, request: Request<Body>, found: &Found<'_>) -> Response {
    let Some(binding) = found.binding(request.method()) else {
        return match *request.method() {
            Verb::OPTIONS => options(found.allow()),
            _ => Error::no_verb(request.method(), found.allow()).into_response(),
        };
    };
    let mut timer = shared.metrics.rpc(binding.method.name());
    let exchange = exchange(shared, inner, request, binding, &found.segments);
    let result = match tokio::time::timeout(CALL_TIMEOUT, exchange).await {
        Ok(result) => result,
        Err(_) => Err(Error::late(CALL_TIMEOUT.as_secs())),
    };
    timer.stop(result.as_ref().map_or_else(Error::code, |_| Code::Ok));
    result.unwrap_or_else(Error::into_response)
}

async fn exchange(
    shared: &Shared,
    inner: Router,
    request: Request<Body>,
    binding: &'static Binding,
    segments: &[&str],
) -> Result<Response, Error> {
    let method = binding.method;
    let failed = |status: tonic::Status| Error::of(&status, method.name());
    let (mut parts, body) = request.into_parts();
    // Before the body: who may not call does not make us read.
    if let Some(caller) =
        identity::authorize(&shared.keys, method.rule(), method.name(), &parts.headers).map_err(failed)?
    {
        parts.extensions.insert(caller);
    }
    let body = match binding.body {
        routes::Body::Ignored => Bytes::new(),
        _ => {
            check_type(&parts.headers)?;
            read(&parts.headers, body, shared.body_bytes_max).await?
        }
    };
    let message = transcode::request(binding, segments, parts.uri.query(), &body)?;
    drop(body);
    let answer = call::unary(inner, method, parts.extensions, message)
        .await
        .map_err(failed)?;
    let mut response = Response::new(Body::from(transcode::response(binding, &answer)));
    if method.creates() {
        *response.status_mut() = StatusCode::CREATED;
    }
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}

/// Only JSON is read. A body that does not say what it is counts as JSON.
fn check_type(headers: &HeaderMap) -> Result<(), Error> {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let sent = String::from_utf8_lossy(value.as_bytes());
    let essence = sent.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(Error::media_type(&sent))
    }
}

/// Reads a body of at most `bytes_max` bytes.
async fn read(headers: &HeaderMap, mut body: Body, bytes_max: usize) -> Result<Bytes, Error> {
    // Whoever asks before sending is told before sending: reading would say "go on".
    let announced = body.size_hint().lower();
    if announced > bytes_max as u64 && headers.contains_key(EXPECT) {
        return Err(Error::too_large(bytes_max));
    }
    let mut collected = BytesMut::with_capacity(usize::try_from(announced).unwrap_or(0).min(bytes_max));
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame
            .map_err(|_| Error::invalid("the body broke off"))?
            .into_data()
        else {
            continue;
        };
        total += data.len();
        if total <= bytes_max {
            collected.extend_from_slice(&data);
        } else if total > bytes_max.saturating_mul(PATIENCE) {
            break;
        } else {
            // An answer while the client still sends is often lost to it: the connection is reset. So the rest is
            // taken, within reason, and dropped.
            collected = BytesMut::new();
        }
    }
    if total > bytes_max {
        Err(Error::too_large(bytes_max))
    } else {
        Ok(collected.freeze())
    }
}

fn options(allow: String) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    if let Ok(allow) = allow.try_into() {
        response.headers_mut().insert(ALLOW, allow);
    }
    response
}

/// The same, as HEAD has it: with the length and without the body.
fn without_body(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        parts.headers.insert(CONTENT_LENGTH, length.into());
    }
    Response::from_parts(parts, Body::empty())
}
