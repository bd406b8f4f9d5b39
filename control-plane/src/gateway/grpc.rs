//! One gRPC call, from its path to its answer's last frame.

use std::{future::pending, sync::Arc, time::Duration};

use axum::{Router, body::Body, response::Response};
use bytes::Bytes;
use common::body::keep;
use http::Request;
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::{Code, Status};
use tower::Service as _;

use super::{
    api, body, deadline,
    error::{code_in, conceal},
    front::Shared,
    metrics::{UNKNOWN, Watched},
    streams::Until,
    wire,
};
use crate::{
    identity::{self, rules},
    memory::{Account, Full},
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
    let mut timer = shared.metrics.rpc(name);
    let given = match (deadline::given(request.headers()), path) {
        (given, HEALTH_CHECK) => Some(given.unwrap_or(CHECK).min(CHECK)),
        (given, _) => given,
    };
    let deadline = given.map(|given| Instant::now() + given.min(DEADLINE_MAX));
    let call = call(shared, inner, request, method, name);
    let called = match deadline {
        // What is passed already starts nothing.
        Some(deadline) if deadline <= Instant::now() => Err(late()),
        Some(deadline) => timeout_at(deadline, call).await.unwrap_or_else(|_| Err(late())),
        None => call.await,
    };
    let mut response = match called {
        Ok(response) => response,
        Err(status) => {
            timer.stop(status.code());
            return status.into_http();
        }
    };
    // An error without an answer is all in the headers; otherwise the code comes with the trailers.
    if let Some(code) = code_in(response.headers()) {
        timer.stop(code);
        conceal(response.headers_mut(), name);
        return response;
    }
    if method.is_none_or(api::Method::is_streaming) {
        timer.stop(Code::Ok);
    }
    let closing = public.map(|_| shared.closing.clone());
    let end = async move {
        let closed = async {
            match closing {
                Some(closing) => closing.cancelled().await,
                None => pending().await,
            }
        };
        let passed = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = closed => Status::unavailable("this control plane is stopping; connect again"),
            () = passed => late(),
        }
    };
    response.map(|body| Body::new(Watched::new(Body::new(Until::new(body, end)), timer)))
}

fn late() -> Status {
    Status::deadline_exceeded("the call's deadline passed; look what came of it, or make it again")
}

async fn call(
    shared: &Shared,
    mut inner: Router,
    request: Request<Body>,
    method: Option<&'static api::Method>,
    name: &str,
) -> Result<Response, Status> {
    if name == UNKNOWN {
        return Err(Status::unimplemented("there is no such method"));
    }
    let (mut parts, mut body) = request.into_parts();
    let rule = rules::of(parts.uri.path());
    let caller = identity::authorize(&shared.keys, rule, name, &parts.headers)?;
    let place = match caller {
        Some(_) => None,
        None => {
            // Whoever holds all the streams does not make the program look ill.
            let places = match parts.uri.path() {
                HEALTH_CHECK => &shared.health_checks,
                _ => &shared.public_calls,
            };
            let place = Arc::clone(places).try_acquire_owned();
            Some(place.map_err(|_| {
                Status::unavailable("too many calls without a token are under way; try again")
            })?)
        }
    };
    let account = shared.memory.account(caller.as_ref()).map_err(full)?;
    parts.extensions.insert(account.clone());
    if let Some(caller) = caller {
        parts.extensions.insert(caller);
    }
    // What a stream sends, its decoder bounds, message by message.
    if let Some(method) = method.filter(|method| !method.descriptor.is_client_streaming()) {
        body = Body::from(message(shared, method, body, &account).await?);
    }
    let response = match inner.call(Request::from_parts(parts, body)).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    Ok(response.map(|body| keep(body, (account, place))))
}

/// Reads a call's one message, and refuses one that would become much larger than it is.
async fn message(
    shared: &Shared,
    method: &api::Method,
    body: Body,
    account: &Account,
) -> Result<Bytes, Status> {
    let bytes_max = shared.body_bytes_max;
    let bytes = body::read(body, bytes_max + FRAME_HEAD, account).await;
    let bytes = bytes.map_err(|error| match error {
        body::Error::TooLarge => Status::resource_exhausted(format!(
            "the message is larger than {bytes_max} bytes; send less at once"
        )),
        body::Error::BrokenOff => Status::invalid_argument("the message broke off"),
        body::Error::Late => {
            Status::deadline_exceeded("the message did not come in time; make the call again")
        }
        body::Error::Full(error) => full(error),
    })?;
    let Some((&[compressed, ref length @ ..], message)) = bytes.split_first_chunk::<FRAME_HEAD>() else {
        return Err(Status::invalid_argument("no message came"));
    };
    // Until it is read here, it could become larger than anybody counted.
    if compressed != 0 {
        return Err(Status::unimplemented(
            "compressed messages are not taken; send it as it is",
        ));
    }
    if usize::try_from(u32::from_be_bytes(*length)) != Ok(message.len()) {
        return Err(Status::invalid_argument(
            "the message is not as long as it says, or not the only one",
        ));
    }
    wire::check(&method.descriptor.input(), message).map_err(Status::invalid_argument)?;
    Ok(bytes)
}

fn full(full: Full) -> Status {
    match full {
        Full::Tenant => Status::resource_exhausted(full.to_string()),
        Full::All => Status::unavailable(full.to_string()),
    }
}
