//! Streams that need a token.

use std::pin::Pin;

use futures::stream;
use proto::v1::{fleet_service_client::FleetServiceClient, fleet_service_server::FleetService};
use tokio::time::Instant;
use tonic::{Response, Streaming};

use super::*;

type Answer<T> = Result<Response<T>, Status>;

/// A watch on which nothing ever comes.
#[tonic::async_trait]
impl FleetService for Echo {
    type WatchStream = Pin<Box<dyn futures::Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;

    async fn watch(&self, _: tonic::Request<Streaming<v1::WatchRequest>>) -> Answer<Self::WatchStream> {
        Ok(Response::new(Box::pin(stream::pending())))
    }

    async fn list_daemons(
        &self,
        _: tonic::Request<v1::ListDaemonsRequest>,
    ) -> Answer<v1::ListDaemonsResponse> {
        Err(Status::unavailable("the database is away"))
    }

    async fn drain_daemon(
        &self,
        _: tonic::Request<v1::DrainDaemonRequest>,
    ) -> Answer<v1::DrainDaemonResponse> {
        Err(Status::unavailable("the database is away"))
    }

    async fn undrain_daemon(
        &self,
        _: tonic::Request<v1::UndrainDaemonRequest>,
    ) -> Answer<v1::UndrainDaemonResponse> {
        Err(Status::unavailable("the database is away"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_token() {
    let gateway = Gateway::new();
    let mut client = FleetServiceClient::new(gateway.router.clone());
    let request = gateway.grpc(Role::Daemon, stream::pending());
    let begun = Instant::now();
    let mut answers = client.watch(request).await.unwrap().into_inner();
    let status = answers.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().starts_with("the token has expired"), "{status}");
    // The tests' tokens are for a minute, in whole seconds, and clocks may be five apart.
    let seconds = begun.elapsed().as_secs();
    assert!((60..=66).contains(&seconds), "after {seconds} s");
}
