//! FleetService.

use proto::v1::{self, fleet_service_server::FleetService};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::fleet::watch::Watch;

/// Responses that may wait in a stream: all that may be unacknowledged, and its last word.
const RESPONSES_MAX: usize = 8;

/// FleetService on [`Watch`].
#[derive(Clone, Debug)]
pub(crate) struct FleetApi {
    pub(crate) watch: Watch,
}

#[tonic::async_trait]
impl FleetService for FleetApi {
    type WatchStream = ReceiverStream<Result<v1::WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<v1::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (responses, stream) = mpsc::channel(RESPONSES_MAX);
        tokio::spawn(self.watch.clone().serve(request.into_inner(), responses));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
