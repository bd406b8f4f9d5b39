//! One gRPC call, from its path to its answer's last frame.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body, response::Response};
use bytes::{BufMut as _, Bytes, BytesMut};
use common::body::keep;
use http::{HeaderMap, Request};
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Status};
use tower::Service as _;

use super::{
    api, audit, body, deadline,
    details::complete,
    ending::{end, late},
    error::{amend, code_in},
    front::Shared,
    gzip,
    metrics::{UNKNOWN, Watched},
    streams::Until,
    wire,
};
use crate::{
    audit::Recording,
    failure::Reason,
    identity::{self, Lifetime, rules},
    limits::Kind,
    memory::{Account, Full},
    request_id::{self, RequestId},
};

/// How many calls may be under way that nobody has to be known for: health's and reflection's. A load balancer has a
/// few streams; whoever opens thousands shall not fill the memory with them.
pub(super) const PUBLIC_CALLS_MAX: usize = 1_000;
/// What probes and load balancers ask, in no time.
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";
/// How long that may take.
const CHECK: Duration = Duration::from_secs(10);
/// What stands before each message: whether it is compressed, and its length.
const FRAME_HEAD: usize = 5;
/// The longest deadline there is, so that adding it to the time cannot overflow.
const DEADLINE_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// Answers a call.
pub(super) async fn serve(shared: &Shared, inner: Router, request: Request<Body>) -> Response {
    let path = request.uri().path();
    let method = api::method(path);
    let public = rules::public_service(path);
    let name = match (method, public) {
        (Some(method), _) => method.name(),
        (None, Some(service)) => service,
        (None, None) => UNKNOWN,
    };
    request_id::calls(name);
    let id = RequestId::of(request.extensions());
    let mut timer = shared.metrics.rpc(name);
    let given = match (deadline::given(request.headers()), path) {
        (given, HEALTH_CHECK) => Some(given.unwrap_or(CHECK).min(CHECK)),
        (given, _) => given,
    };
    let deadline = given.map(|given| Instant::now() + given.min(DEADLINE_MAX));
    let mut recording = audit::record(shared, name, request.extensions());
    let called = {
        let call = call(shared, inner, request, method, name, &mut recording);
        match deadline {
            // What is passed already starts nothing.
            Some(deadline) if deadline <= Instant::now() => Err(late()),
            Some(deadline) => timeout_at(deadline, call).await.unwrap_or_else(|_| Err(late())),
            None => call.await,
        }
    };
    let (mut response, lifetime) = match called {
        Ok(answered) => answered,
        Err(status) => {
            timer.stop(status.code());
            recording.ends(status.code(), status.message()).await;
            return complete(&status, &id).into_http();
        }
    };
    // An error without an answer is all in the headers; otherwise the code comes with the trailers.
    if let Some(code) = code_in(response.headers()) {
        timer.stop(code);
        amend(response.headers_mut(), name, &id);
        let told = Status::from_header_map(response.headers());
        recording
            .ends(code, told.as_ref().map_or("", Status::message))
            .await;
        return response;
    }
    recording.ends(Code::Ok, "").await;
    if method.is_none_or(api::Method::is_streaming) {
        timer.stop(Code::Ok);
    }
    let ends_by_itself = method.is_none_or(api::Method::is_dialogue) && public.is_none();
    let closing = (!ends_by_itself).then(|| shared.closing.clone());
    let end = end(lifetime, closing, deadline);
    response.map(|body| Body::new(Watched::new(Body::new(Until::new(body, end)), timer, id)))
}

/// Makes the call; answers how long its stream may last, too, if it is one that needs a token.
async fn call(
    shared: &Shared,
    mut inner: Router,
    request: Request<Body>,
    method: Option<&'static api::Method>,
    name: &str,
    recording: &mut Recording,
) -> Result<(Response, Option<Lifetime>), Status> {
    if name == UNKNOWN {
        return Err(Reason::NotImplemented.status("there is no such method"));
    }
    let (mut parts, mut body) = request.into_parts();
    let rule = rules::of(parts.uri.path());
    let caller = identity::authorize(&shared.keys, rule, name, &parts.headers, |caller| {
        audit::is_from(recording, caller)
    })
    .await?;
    let place = match caller {
        Some(_) => None,
        None => {
            // Whoever holds all the streams does not make the program look ill.
            let places = match parts.uri.path() {
                HEALTH_CHECK => &shared.health_checks,
                _ if method.is_some() => &shared.token_calls,
                _ => &shared.public_calls,
            };
            let place = Arc::clone(places).try_acquire_owned();
            Some(place.map_err(|_| {
                Reason::Overloaded.status("too many calls without a token are under way; try again")
            })?)
        }
    };
    let is_stream = method.is_some_and(api::Method::is_streaming);
    let begun = match &caller {
        Some(caller) => Some(shared.callers.begin(caller, Kind::of(is_stream))?),
        None => None,
    };
    let bytes_max = shared.bytes_max(caller.as_ref());
    let account = shared.memory.account(caller.as_ref()).map_err(full)?;
    parts.extensions.insert(account.clone());
    let mut lifetime = None;
    if let Some(caller) = caller {
        if is_stream {
            let lifetime = lifetime.insert(Lifetime::of(&caller, shared.keys.revoked()));
            parts.extensions.insert(lifetime.clone());
        }
        parts.extensions.insert(caller);
    }
    // What a stream sends, its decoder bounds, message by message.
    if let Some(method) = method.filter(|method| !method.descriptor.is_client_streaming()) {
        let message = message(shared, bytes_max, method, &parts.headers, body, &account);
        let bytes = message.await?;
        parts.headers.remove(gzip::ENCODING);
        let encoded = bytes.get(FRAME_HEAD..).unwrap_or_default();
        audit::begins_encoded(recording, &method.descriptor.input(), encoded).await?;
        body = Body::from(bytes);
    }
    parts.extensions.insert(recording.target());
    let response = match inner.call(Request::from_parts(parts, body)).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    Ok((response.map(|body| keep(body, (account, place, begun))), lifetime))
}

/// Reads a call's one message, and refuses one that would become much larger than it is.
async fn message(
    shared: &Shared,
    bytes_max: usize,
    method: &api::Method,
    headers: &HeaderMap,
    body: Body,
    account: &Account,
) -> Result<Bytes, Status> {
    let too_large = || {
        Reason::RequestTooLarge.status(format!(
            "the message is larger than {bytes_max} bytes; send less at once"
        ))
    };
    let bytes = body::read(body, bytes_max + FRAME_HEAD, account).await;
    let bytes = bytes.map_err(|error| match error {
        body::Error::TooLarge => too_large(),
        body::Error::BrokenOff => Reason::InvalidRequest.status("the message broke off"),
        body::Error::Late => {
            Reason::RequestTimeout.status("the message did not come in time; make the call again")
        }
        body::Error::Full(error) => full(error),
    })?;
    let Some((&[compressed, ref length @ ..], message)) = bytes.split_first_chunk::<FRAME_HEAD>() else {
        return Err(Reason::InvalidRequest.status("no message came"));
    };
    if usize::try_from(u32::from_be_bytes(*length)) != Ok(message.len()) {
        return Err(
            Reason::InvalidRequest.status("the message is not as long as it says, or not the only one")
        );
    }
    let input = method.descriptor.input();
    if compressed == 0 {
        wire::check(&input, message)?;
        return Ok(bytes);
    }
    gzip::check(headers)?;
    let (message, account) = (bytes.slice(FRAME_HEAD..), account.clone());
    let opened = move || gzip::open(&message, bytes_max, &account);
    let opened = shared.offload.run(bytes.len(), opened).await;
    let message = opened.map_err(|error| match error {
        gzip::Error::TooLarge => too_large(),
        gzip::Error::Broken => Reason::InvalidRequest.status("the message is no gzip, though it says so"),
        gzip::Error::Full(error) => full(error),
    })?;
    wire::check(&input, &message)?;
    let mut bytes = BytesMut::with_capacity(FRAME_HEAD + message.len());
    bytes.put_u8(0);
    // As large as a request may be, which is far below what four bytes can say.
    bytes.put_u32(message.len() as u32);
    bytes.extend_from_slice(&message);
    Ok(bytes.freeze())
}

fn full(full: Full) -> Status {
    full.reason().status(full.to_string())
}
