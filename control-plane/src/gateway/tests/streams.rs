//! Streams that need a token.

use std::pin::Pin;

use futures::stream;
use http::HeaderValue;
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

/// Opens a stream over REST, and answers its parts as they come.
async fn open(gateway: &Gateway, query: &str, headers: &[(&str, &str)]) -> (HeaderMap, Body) {
    let uri = format!("/tenants/{TENANT}/messages/stream{query}");
    let mut request = Request::get(uri).header(header::AUTHORIZATION, gateway.bearer(Role::Tenant));
    for &(name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(Body::empty()).unwrap();
    let (parts, body) = gateway
        .router
        .clone()
        .oneshot(request)
        .await
        .unwrap()
        .into_parts();
    assert_eq!(parts.status, StatusCode::OK);
    (parts.headers, body)
}

async fn piece(body: &mut Body) -> Option<Result<String, axum::Error>> {
    let frame = body.frame().await?;
    Some(frame.map(|frame| String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()))
}

#[tokio::test(start_paused = true)]
async fn events_have_the_position_as_their_id_and_a_comment_comes_while_nothing_else_does() {
    let gateway = Gateway::new();
    let asked = [("accept", "text/event-stream"), ("last-event-id", "41")];
    let (headers, mut body) = open(&gateway, "?follow=true&cursor=7", &asked).await;
    assert_eq!(headers[header::CONTENT_TYPE], "text/event-stream");
    assert_eq!(
        headers[header::CACHE_CONTROL],
        HeaderValue::from_static("no-store")
    );
    let mut events = String::new();
    while events.matches("\n\n").count() < 2 {
        events += &piece(&mut body).await.unwrap().unwrap();
    }
    let events: Vec<_> = events.split_terminator("\n\n").collect();
    for (event, position) in events.iter().zip([42, 43]) {
        assert!(event.starts_with(&format!("id: {position}\ndata: {{")), "{event}");
    }
    for _ in 0..2 {
        let begun = Instant::now();
        let comment = piece(&mut body).await.unwrap().unwrap();
        assert!(comment.starts_with(':') && comment.ends_with("\n\n"), "{comment}");
        assert_eq!(begun.elapsed().as_secs(), 15);
    }
    // It ends with its token, and says so.
    let mut last = String::new();
    while let Some(piece) = piece(&mut body).await {
        last = piece.unwrap();
    }
    assert!(last.starts_with("event: error\ndata: {\"code\":16,"), "{last}");
    assert!(
        last.contains("the token has expired") && last.contains("TOKEN_EXPIRED"),
        "{last}"
    );
}

#[tokio::test]
async fn lines_that_end_early_say_why_and_break_off() {
    let gateway = Gateway::new();
    let (headers, mut body) = open(&gateway, "", &[("accept-encoding", "gzip")]).await;
    assert_eq!(headers[header::CONTENT_TYPE], "application/x-ndjson");
    assert!(
        !headers.contains_key(header::CONTENT_ENCODING),
        "a block is not waited for"
    );
    let mut lines = String::new();
    let broken = loop {
        match piece(&mut body).await.unwrap() {
            Ok(piece) => lines += &piece,
            Err(error) => break error,
        }
    };
    assert!(broken.to_string().contains("before its end"), "{broken}");
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&lines[0]["position"], &lines[1]["position"]),
        (&json!("1"), &json!("2"))
    );
    assert_eq!(lines[2]["error"]["message"], "the database is away");
}

#[tokio::test]
async fn a_place_to_resume_from_that_is_none_is_told() {
    let gateway = Gateway::new();
    for id in ["x", "1.5", "9223372036854775808"] {
        let request = Request::get(format!("/api/tenants/{TENANT}/messages/stream"))
            .header(header::AUTHORIZATION, gateway.bearer(Role::Tenant))
            .header("last-event-id", id);
        let answer = gateway.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        let told = answer.json()["message"].to_string();
        assert!(
            told.contains("Last-Event-ID must be the id of an event"),
            "{told}"
        );
    }
}
