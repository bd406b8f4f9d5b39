//! One REST request, from its path to its answer.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body, response::Response};
use bytes::Bytes;
use common::body::keep;
use http::{
    HeaderMap, HeaderValue, Method as Verb, Request, StatusCode,
    header::{ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT},
};
use http_body::Body as _;
use prost_reflect::DynamicMessage;
use tonic::{Code, Streaming};

use super::{
    audit, body, call,
    ending::end,
    error::Error,
    feed::{self, Form},
    front::Shared,
    metrics::UNKNOWN,
    oauth,
    routes::{self, Binding, Found},
    transcode,
};
use crate::{
    audit::Recording,
    failure::Reason,
    identity::{self, Lifetime},
    limits::Kind,
    request_id::{self, RequestId},
};

/// The longest that a call may take once its body is read. Longer than any method waits by itself.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Answers a request.
pub(super) async fn serve(shared: &Shared, inner: Router, request: Request<Body>) -> Response {
    let verb = request.method().clone();
    let path = request.uri().path().to_owned();
    let id = RequestId::of(request.extensions());
    let (route, response) = match routes::find(&path) {
        None => (UNKNOWN, Error::no_path(&path).into_response(&id)),
        Some(found) => (
            found.template(),
            answer(shared, inner, request, &found, &id).await,
        ),
    };
    shared.metrics.http(&verb, route, response.status());
    match verb {
        Verb::HEAD => without_body(response),
        _ => response,
    }
}

async fn answer(
    shared: &Shared,
    inner: Router,
    request: Request<Body>,
    found: &Found<'_>,
    id: &RequestId,
) -> Response {
    let Some(binding) = found.binding(request.method()) else {
        return match *request.method() {
            Verb::OPTIONS => options(found.allow()),
            _ => Error::no_verb(request.method(), found.allow()).into_response(id),
        };
    };
    request_id::calls(binding.method.name());
    let mut timer = shared.metrics.rpc(binding.method.name());
    let mut recording = audit::record(shared, binding.method.name(), request.extensions());
    let variables = binding.variables.iter().map(|field| field.name());
    audit::is_about(&mut recording, variables.zip(found.segments.iter().copied()));
    let result = exchange(
        shared,
        inner,
        request,
        binding,
        &found.segments,
        &mut recording,
        id,
    )
    .await;
    let (code, message) = match &result {
        Ok(_) => (Code::Ok, ""),
        Err(error) => (error.code(), error.message()),
    };
    timer.stop(code);
    recording.ends(code, message).await;
    match binding.method.issues_tokens() {
        true => oauth::answer(result, id),
        false => result.unwrap_or_else(|error| error.into_response(id)),
    }
}

/// What a handler answered.
enum Answer {
    Message(DynamicMessage),
    Stream(Streaming<DynamicMessage>),
}

async fn exchange(
    shared: &Shared,
    inner: Router,
    request: Request<Body>,
    binding: &'static Binding,
    segments: &[&str],
    recording: &mut Recording,
    id: &RequestId,
) -> Result<Response, Error> {
    let method = binding.method;
    let failed = |status: tonic::Status| Error::of(status, method.name());
    let (mut parts, body) = request.into_parts();
    // Before the body: who may not call does not make us read.
    let caller = identity::authorize(
        &shared.keys,
        method.rule(),
        method.name(),
        &parts.headers,
        |caller| audit::is_from(recording, caller),
    )
    .await
    .map_err(failed)?;
    let _place = match caller {
        Some(_) => None,
        None => Some(Arc::clone(&shared.token_calls).try_acquire_owned().map_err(|_| {
            failed(Reason::Overloaded.status("too many calls without a token are under way; try again"))
        })?),
    };
    let begun = match &caller {
        Some(caller) => {
            let kind = Kind::of(method.is_streaming());
            Some(shared.callers.begin(caller, kind).map_err(failed)?)
        }
        None => None,
    };
    let bytes_max = shared.bytes_max(caller.as_ref());
    let asked = oauth::Asked::of(method, &parts.headers)?;
    let account = shared.memory.account(caller.as_ref()).map_err(Error::full)?;
    parts.extensions.insert(account.clone());
    let lifetime = caller
        .as_ref()
        .map(|caller| Lifetime::of(caller, shared.keys.revoked()));
    if let Some(caller) = caller {
        parts.extensions.insert(caller);
    }
    parts.extensions.insert(recording.target());
    let body = match binding.body {
        routes::Body::Ignored => Bytes::new(),
        _ => {
            if asked.as_ref().is_none_or(|asked| !asked.is_form) {
                check_type(&parts.headers)?;
            }
            check_encoding(&parts.headers)?;
            check_length(&parts.headers, &body, bytes_max)?;
            let read = body::read(body, bytes_max, &account).await;
            read.map_err(|error| unread(error, bytes_max))?
        }
    };
    let answer = async {
        let message = shared.offload.run(body.len(), {
            let segments: Vec<_> = segments.iter().map(|&segment| segment.to_owned()).collect();
            let query = parts.uri.query().map(str::to_owned);
            let account = account.clone();
            move || {
                // What is read is held until it is a message, whether or not somebody still waits for it.
                let _held = account;
                match asked {
                    Some(asked) => asked.request(binding, query.as_deref(), &body),
                    None => transcode::request(binding, &segments, query.as_deref(), &body),
                }
            }
        });
        let mut message = message.await?;
        audit::begins(recording, &message).await.map_err(failed)?;
        if method.is_streaming() {
            feed::resume(&parts.headers, &mut message)?;
            let messages = call::streaming(inner, method, parts.extensions, message).await;
            return messages.map(Answer::Stream).map_err(failed);
        }
        let answer = call::unary(inner, method, parts.extensions, message).await;
        answer.map(Answer::Message).map_err(failed)
    };
    let answer = tokio::time::timeout(CALL_TIMEOUT, answer)
        .await
        .unwrap_or_else(|_| Err(Error::late(CALL_TIMEOUT.as_secs())))?;
    let answer = match answer {
        Answer::Message(answer) => answer,
        Answer::Stream(messages) => {
            let end = end(lifetime, Some(shared.closing.clone()), None);
            let response = feed::response(Form::of(&parts.headers), binding, messages, end, id);
            return Ok(response.map(|body| keep(body, (account, begun))));
        }
    };
    let body = Body::from(transcode::response(binding, &answer));
    let mut response = Response::new(keep(body, (account, begun)));
    if method.creates() {
        *response.status_mut() = StatusCode::CREATED;
    }
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    if method.tells_secrets() {
        oauth::forbid_keeping(&mut response);
    }
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

/// And only as it is.
fn check_encoding(headers: &HeaderMap) -> Result<(), Error> {
    let encodings = headers.get_all(CONTENT_ENCODING).into_iter();
    let mut others = encodings.filter(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"));
    match others.next() {
        None => Ok(()),
        Some(value) => Err(Error::encoding(&String::from_utf8_lossy(value.as_bytes()))),
    }
}

/// Whoever asks before sending is told before sending: reading would say "go on".
fn check_length(headers: &HeaderMap, body: &Body, bytes_max: usize) -> Result<(), Error> {
    if body.size_hint().lower() > bytes_max as u64 && headers.contains_key(EXPECT) {
        return Err(Error::too_large(bytes_max));
    }
    Ok(())
}

fn unread(error: body::Error, bytes_max: usize) -> Error {
    match error {
        body::Error::TooLarge => Error::too_large(bytes_max),
        body::Error::BrokenOff => Error::invalid("the body broke off"),
        body::Error::Late => Error::slow(),
        body::Error::Full(full) => Error::full(full),
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
