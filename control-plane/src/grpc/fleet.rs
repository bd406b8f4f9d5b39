//! FleetService.

use std::time::Duration;

use proto::v1::{self, fleet_service_server::FleetService};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument as _;

use super::{page_size, timestamp};
use crate::{
    error::Error,
    excerpt::excerpt,
    fleet::{
        Daemon, Fleet,
        watch::{Watch, is_daemon_id},
    },
    identity::Lifetime,
};

/// Responses that may wait in a stream: all that may be unacknowledged, and its last word.
const RESPONSES_MAX: usize = 8;
/// How long DrainDaemon waits for the daemon's lanes to stop.
const DRAIN_WAIT: Duration = Duration::from_secs(10);

/// FleetService on [`Watch`] and [`Fleet`].
#[derive(Clone, Debug)]
pub(crate) struct FleetApi {
    pub(crate) watch: Watch,
    pub(crate) fleet: Fleet,
}

#[tonic::async_trait]
impl FleetService for FleetApi {
    type WatchStream = ReceiverStream<Result<v1::WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<v1::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (responses, stream) = mpsc::channel(RESPONSES_MAX);
        let lifetime = Lifetime::of_request(&request)?;
        let watch = self.watch.clone();
        let serving = watch.serve(request.into_inner(), responses, lifetime);
        // What is logged for as long as it lasts is logged of this request.
        tokio::spawn(serving.in_current_span());
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn list_daemons(
        &self,
        request: Request<v1::ListDaemonsRequest>,
    ) -> Result<Response<v1::ListDaemonsResponse>, Status> {
        let request = request.into_inner();
        let size = page_size("page_size", request.page_size)?;
        let after = request.page_token;
        if !after.is_empty() && !is_daemon_id(&after) {
            return Err(Error::invalid("page_token", "must be the next_page_token of a page").into());
        }
        let (daemons, more) = self.fleet.daemons(&after, size).await?;
        let last = daemons.last().filter(|_| more);
        let next_page_token = last.map(|daemon| daemon.id.clone()).unwrap_or_default();
        Ok(Response::new(v1::ListDaemonsResponse {
            daemons: daemons.into_iter().map(daemon).collect(),
            next_page_token,
        }))
    }

    async fn drain_daemon(
        &self,
        request: Request<v1::DrainDaemonRequest>,
    ) -> Result<Response<v1::DrainDaemonResponse>, Status> {
        let drained = self
            .fleet
            .drain(daemon_id(&request.get_ref().id)?, DRAIN_WAIT)
            .await?;
        Ok(Response::new(v1::DrainDaemonResponse {
            daemon: Some(daemon(drained)),
        }))
    }

    async fn undrain_daemon(
        &self,
        request: Request<v1::UndrainDaemonRequest>,
    ) -> Result<Response<v1::UndrainDaemonResponse>, Status> {
        let ready = self.fleet.undrain(daemon_id(&request.get_ref().id)?).await?;
        Ok(Response::new(v1::UndrainDaemonResponse {
            daemon: Some(daemon(ready)),
        }))
    }
}

fn daemon_id(id: &str) -> Result<&str, Error> {
    if is_daemon_id(id) {
        Ok(id)
    } else {
        let message = format!(
            "{:?} is no daemon's: 1 to 100 of letters, digits, '.', '_' and '-'; GET /api/daemons lists those that are alive",
            excerpt(id)
        );
        Err(Error::invalid("id", message))
    }
}

fn daemon(daemon: Daemon) -> v1::Daemon {
    let state = match daemon.draining {
        true => v1::DaemonState::Draining,
        false => v1::DaemonState::Ready,
    };
    v1::Daemon {
        id: daemon.id,
        state: state.into(),
        capacity: daemon.capacity,
        lanes: daemon.lanes,
        workers: daemon.workers,
        joined_at: Some(timestamp(daemon.joined_at)),
    }
}
