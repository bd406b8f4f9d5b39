//! What a request may hold, and how long it and its answer may take.

use axum::body::Body;
use bytes::Bytes;
use http::{Method as Verb, Request, StatusCode, header};
use http_body_util::StreamBody;
use tonic::{Code, Status};
use tower::ServiceExt as _;

use super::{super::grpc::PUBLIC_CALLS_MAX, BODY_BYTES_MAX, Gateway, TENANT};
use crate::identity::Role;

#[tokio::test]
async fn a_stream_of_healths_ends_with_its_last_word_when_the_program_stops() {
    let gateway = Gateway::new();
    let mut client = tonic_health::pb::health_client::HealthClient::new(gateway.router.clone());
    let request = tonic_health::pb::HealthCheckRequest::default();
    let mut stream = client.watch(request).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    gateway.closing.cancel();
    let ended = stream.message().await.unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable);
    assert!(ended.message().contains("stopping"), "{ended}");
}

#[tokio::test]
async fn a_passed_deadline_is_deadline_exceeded_before_an_answer_and_within_a_stream() {
    let gateway = Gateway::new();
    let mut client = tonic_health::pb::health_client::HealthClient::new(gateway.router.clone());
    let timed = |timeout: &str| {
        let mut request = tonic::Request::new(tonic_health::pb::HealthCheckRequest::default());
        let timeout = timeout.parse().unwrap();
        request.metadata_mut().insert("grpc-timeout", timeout);
        request
    };
    let refused = client.check(timed("0n")).await.unwrap_err();
    assert_eq!(refused.code(), Code::DeadlineExceeded, "{refused}");
    let mut stream = client.watch(timed("300m")).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    let ended = stream.message().await.unwrap_err();
    assert_eq!(ended.code(), Code::DeadlineExceeded, "{ended}");
}

#[tokio::test]
async fn streams_without_a_token_have_so_many_places_and_leave_them() {
    let gateway = Gateway::new();
    let client = tonic_health::pb::health_client::HealthClient::new(gateway.router.clone());
    let watch = async || {
        let request = tonic_health::pb::HealthCheckRequest::default();
        client.clone().watch(request).await
    };
    let mut streams = Vec::new();
    for _ in 0..PUBLIC_CALLS_MAX {
        streams.push(watch().await.unwrap().into_inner());
    }
    assert_eq!(watch().await.unwrap_err().code(), Code::Unavailable);
    let check = tonic_health::pb::HealthCheckRequest::default();
    assert!(
        client.clone().check(check).await.is_ok(),
        "it is well all the same"
    );
    let rest = gateway.rest(Verb::GET, "/tenants/x", "").await;
    assert_eq!(rest.status, StatusCode::BAD_REQUEST, "others do not notice");
    streams.pop();
    assert!(watch().await.is_ok());
}

#[tokio::test]
async fn garbage_over_grpc_is_the_callers_fault_and_named() {
    let gateway = Gateway::new();
    let send = async |path: &str, message: &[u8], length: usize| {
        let mut body = vec![0];
        body.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
        body.extend_from_slice(message);
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::AUTHORIZATION, gateway.bearer(Role::Admin));
        let answer = gateway.send(request.body(Body::from(body)).unwrap()).await;
        Status::from_header_map(&answer.headers).unwrap()
    };
    let create = "/jalur.v1.TenantService/CreateTenant";
    for (message, length) in [
        // A key of a kind that there is not, a length beyond the end, a string that is no UTF-8.
        (&[0xff][..], 1),
        (&[0x0a, 200, 1], 3),
        (&[0x0a, 2, 0xff, 0xfe], 4),
        // A frame that is shorter or longer than it says.
        (b"", 5),
        (b"abc", 1),
    ] {
        let status = send(create, message, length).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{message:?}: {status}");
    }
    let status = send(create, &[0x0a, 2, 0xff, 0xfe], 4).await;
    assert!(
        status.message().contains("CreateTenantRequest.id") && status.message().contains("UTF-8"),
        "{status}"
    );
    let status = send("/grpc.health.v1.Health/Check", &[0xff], 1).await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let status = send(create, &[b' '; BODY_BYTES_MAX + 1], BODY_BYTES_MAX + 1).await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_408() {
    let gateway = Gateway::new();
    let body = Body::new(StreamBody::new(futures::stream::pending::<
        Result<http_body::Frame<Bytes>, axum::Error>,
    >()));
    let request = Request::post("/api/tenants").header(header::AUTHORIZATION, gateway.bearer(Role::Admin));
    let rest = gateway.send(request.body(body).unwrap()).await;
    assert_eq!(rest.status, StatusCode::REQUEST_TIMEOUT);
    assert_eq!(rest.json()["code"], 4);
}

#[tokio::test]
async fn a_tenant_whose_answers_are_not_read_is_refused_and_nobody_else() {
    let gateway = Gateway::new();
    let ask = async |role: Role| {
        let request = Request::get(format!("/tenants/{TENANT}/messages"))
            .header(header::AUTHORIZATION, gateway.bearer(role));
        let request = request.body(Body::empty()).unwrap();
        gateway.router.clone().oneshot(request).await.unwrap()
    };
    let mut unread = Vec::new();
    let refused = loop {
        let answer = ask(Role::Tenant).await;
        if answer.status() != StatusCode::OK {
            break answer;
        }
        unread.push(answer);
    };
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
    assert_eq!(ask(Role::Admin).await.status(), StatusCode::OK);
    unread.clear();
    assert_eq!(ask(Role::Tenant).await.status(), StatusCode::OK);
}
