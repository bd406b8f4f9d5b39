//! The control plane's client: keeps one `Watch` stream open, applies what it says and reports what the lanes do.
//!
//! Control plane gone: the lanes go on with what is known, and the client tries its endpoints in turn.

mod ledger;
mod session;
#[cfg(test)]
mod tests;
mod token;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use common::{config::Error, tls};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity as TlsIdentity},
};
use tracing::{info, warn};
use uuid::Uuid;

use self::{ledger::Ledger, session::Session, token::Token};
use crate::{config, lane::Board, tenant_manager::TenantManager};

/// How long connecting to an endpoint may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection on which nothing comes back is found dead within these two: there is time left of the lease to find
/// another control plane.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// A stream that lasted this long counts as a success: the pauses start over.
const STEADY: Duration = Duration::from_secs(10);

/// Who the daemon is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// Its id in the fleet.
    pub(crate) id: String,
    /// Tells this process from another with the same id.
    pub(crate) incarnation: Uuid,
    /// How many workers it may run.
    pub(crate) capacity: u32,
}

/// The client.
pub(crate) struct Client {
    identity: Identity,
    endpoints: Vec<Endpoint>,
    tls: tls::Client,
    token: Token,
    manager: Arc<TenantManager>,
    board: Arc<Board>,
    synced: Arc<AtomicBool>,
    ledger: Ledger,
}

impl Client {
    pub(crate) fn new(
        identity: Identity,
        config: &config::ControlPlane,
        read_token: token::Read,
        manager: Arc<TenantManager>,
        board: Arc<Board>,
    ) -> Result<Self, Error> {
        let endpoints = config
            .endpoints
            .iter()
            .map(|url| endpoint(url))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            identity,
            endpoints,
            tls: tls::Client::new("control_plane.tls", &config.tls)?,
            token: Token::new(read_token, config.token.clone())?,
            manager,
            board,
            synced: Arc::default(),
            ledger: Ledger::default(),
        })
    }

    /// Whether the control plane has said what to run, at least once.
    pub(crate) fn synced(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.synced)
    }

    /// Watches until `leave`, then tells the control plane and waits a moment for its goodbye. From `stopping` on it
    /// takes nothing on any more.
    pub(crate) async fn run(mut self, stopping: CancellationToken, leave: CancellationToken) {
        let mut backoff = backoff();
        let mut said = None;
        for turn in 0.. {
            if turn > 0 {
                self.token.refresh().await;
            }
            let started = tokio::time::Instant::now();
            let status = match self.endpoint(turn) {
                Ok(endpoint) => match Session::new(&mut self, &stopping, &leave).run(&endpoint).await {
                    Ok(()) => return,
                    Err(status) => status,
                },
                Err(status) => status,
            };
            if leave.is_cancelled() {
                return;
            }
            let synced = self.synced.load(Ordering::Relaxed);
            // One line an outage, and one when its reason changes.
            if said.replace(status.code()) != Some(status.code()) || started.elapsed() > STEADY {
                let (code, why) = (status.code(), status.message());
                match code {
                    Code::Unauthenticated | Code::PermissionDenied => {
                        warn!(
                            ?code,
                            why,
                            "the control plane refuses this daemon: give it another token (`control-plane token --role \
                             daemon` makes one). One in the file that control_plane.token_file names is taken at once, \
                             one in the environment or in a flag with a restart"
                        );
                    }
                    _ => warn!(
                        ?code,
                        why, synced, "no control plane; going on with what is known"
                    ),
                }
            }
            if started.elapsed() > STEADY {
                backoff = self::backoff();
            }
            let pause = backoff.next().unwrap_or(Duration::from_secs(1));
            tokio::select! {
                () = leave.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// The endpoint whose turn it is, with TLS as its files say at the moment.
    fn endpoint(&self, turn: usize) -> Result<Endpoint, Status> {
        let endpoint = self.endpoints[turn % self.endpoints.len()].clone();
        if endpoint.uri().scheme_str() != Some("https") {
            return Ok(endpoint);
        }
        let files = self
            .tls
            .read()
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let tls = match files.ca {
            Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        let tls = match files.identity {
            Some((cert, key)) => tls.identity(TlsIdentity::from_pem(cert, key)),
            None => tls,
        };
        endpoint
            .tls_config(tls)
            .map_err(|error| Status::unavailable(error.to_string()))
    }

    fn watching(&self) {
        let (lanes, workers) = self.manager.load();
        info!(lanes, workers, "the control plane has said what to run");
    }
}

fn endpoint(url: &str) -> Result<Endpoint, Error> {
    let endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|error| Error::key("control_plane.endpoints", format!("{url:?}: {error}")))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// 100 ms, doubling to 1 s, up to twice that with the jitter, for ever. A daemon whose stream broke has about a second to
/// come back, and five after an outage.
fn backoff() -> backon::ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(1))
        .with_jitter()
        .without_max_times()
        .build()
}
