//! HTTP/1 and HTTP/2 on one port, where nobody can stay without saying something, and which closes in good order.
//!
//! A connection that is opened and not used costs as much as one that is, so each step of one has its time: the first
//! request, the next one, the reading of an answer. HTTP/2 is asked for a sign of life instead, since its clients keep
//! a connection for when they need it. The same within TLS.

mod patience;
mod start;

use std::{
    convert::Infallible,
    io::{self, Cursor},
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo};
use http::{Request, Response};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, join, split},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service as _;
use tracing::debug;

use self::{patience::Patient, start::Version};
use crate::{body, tls};

/// Connections at once; others wait to be accepted. Each holds buffers of some 100 kB when it is busy.
const CONNECTIONS_MAX: usize = 10_000;
/// How long the head of a first request may take. Whoever connects has something to say.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// How long a connection over HTTP/1 may wait for its next request: longer than load balancers keep one (60 s), since
/// a request that meets a connection that is just closed fails.
const NEXT_REQUEST: Duration = Duration::from_secs(75);
/// A client over HTTP/2 that is gone without a word is noticed after this and as much again.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// How many requests one connection may have in the air: clients over HTTP/2 share one for everything.
const CONCURRENT_STREAMS_MAX: u32 = 1_000;
/// What an answered client may still take to read its answer when the program stops.
const FLUSH: Duration = Duration::from_secs(1);
/// The pause after a connection could not be accepted: no more files may be open, and that takes a moment to change.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop`, in clear or as `tls` says. Requests have the peer's address, as axum's [`ConnectInfo`]. Then nothing more is accepted, requests under way are answered, and connections without any
/// are closed, whatever state they are in. Dropped, it ends everything at once.
pub async fn serve(listener: TcpListener, tls: Option<tls::Server>, router: Router, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            // The semaphore is never closed.
            let place = Arc::clone(&room).acquire_owned().await.ok();
            (listener.accept().await, place)
        };
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            (accepted, place) = accept => match accepted {
                Ok((stream, peer)) => {
                    let connection = connection(stream, peer, tls.clone(), router.clone(), stop.clone());
                    connections.spawn(async move {
                        if let Err(error) = connection.await {
                            debug!(error, "a connection ended");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    debug!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<tls::Server>,
    router: Router,
    stop: CancellationToken,
) -> Result<(), String> {
    stream.set_nodelay(true).map_err(said)?;
    let Some(tls) = tls else {
        let (read, write) = stream.into_split();
        return talk(read, write, peer, router, stop).await;
    };
    let shaken = timeout(FIRST_REQUEST, tls.accept(stream));
    let Some(shaken) = stop.run_until_cancelled(shaken).await else {
        return Ok(());
    };
    let stream = shaken
        .map_err(|_| "no handshake came".to_owned())?
        .map_err(|error| format!("TLS: {error}"))?;
    let (read, write) = split(stream);
    talk(read, write, peer, router, stop).await
}

fn said(error: io::Error) -> String {
    error.to_string()
}

async fn talk(
    mut read: impl AsyncRead + Unpin + Send + 'static,
    write: impl AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    router: Router,
    stop: CancellationToken,
) -> Result<(), String> {
    let begun = timeout(FIRST_REQUEST, start::read(&mut read));
    let Some(begun) = stop.run_until_cancelled(begun).await else {
        return Ok(());
    };
    let (version, bytes) = begun.map_err(|_| "nothing came".to_owned())?.map_err(said)?;
    let io = TokioIo::new(join(Cursor::new(bytes).chain(read), Patient::new(write)));
    let requests = Requests::default();
    let service = service_fn({
        let requests = requests.clone();
        move |request| requests.clone().answer(peer, router.clone(), request)
    });
    match version {
        Version::Http1 => {
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(NEXT_REQUEST);
            drive(builder.serve_connection(io, service), &requests, &stop).await
        }
        Version::Http2 => {
            // It has shown that it is there, and keeps showing it.
            requests.first.cancel();
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .max_concurrent_streams(CONCURRENT_STREAMS_MAX)
                .keep_alive_interval(KEEPALIVE)
                .keep_alive_timeout(KEEPALIVE);
            drive(builder.serve_connection(io, service), &requests, &stop).await
        }
    }
}

/// Drives a connection to its end, in good order when the program stops.
async fn drive<C>(connection: C, requests: &Requests, stop: &CancellationToken) -> Result<(), String>
where
    C: GracefulConnection,
    C::Error: std::error::Error,
{
    let mut connection = pin!(connection);
    let silent = async {
        if timeout(FIRST_REQUEST, requests.first.cancelled()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        ended = connection.as_mut() => return ended.map_err(|error| error.to_string()),
        () = silent => return Err("no request came".to_owned()),
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    requests.under_way.close();
    let answered = async {
        requests.under_way.wait().await;
        sleep(FLUSH).await;
    };
    tokio::select! {
        ended = connection => ended.map_err(|error| error.to_string()),
        // Half of a request's head, say: nobody is owed an answer.
        () = answered => Ok(()),
    }
}

/// What one connection has asked. A request is under way until its answer's body is gone.
#[derive(Clone, Debug, Default)]
struct Requests {
    /// Cancelled once there was a first one.
    first: CancellationToken,
    under_way: TaskTracker,
}

impl Requests {
    async fn answer(
        self,
        peer: SocketAddr,
        mut router: Router,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        self.first.cancel();
        let under_way = self.under_way.token();
        request.extensions_mut().insert(ConnectInfo(peer));
        let response = router.call(request.map(Body::new)).await?;
        Ok(response.map(|answer| body::keep(answer, under_way)))
    }
}

#[cfg(test)]
mod tests;
