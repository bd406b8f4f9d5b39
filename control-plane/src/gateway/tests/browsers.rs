//! What browsers, and whoever compresses, see.

use std::io::Read as _;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use flate2::read::GzDecoder;
use prost::Message as _;
use tonic::codec::CompressionEncoding::Gzip;

use super::*;

const PAGE: &str = "https://page.example";

/// A message of gRPC-Web, as a page sends it and gets it: a byte that says what it is, a length, and what it is.
fn frame(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap();
    [&[kind][..], &length.to_be_bytes(), content].concat()
}

async fn grpc_web(gateway: &Gateway, kind: &str, body: Vec<u8>) -> Rest {
    let request = Request::post("/jalur.v1.MessageService/ListMessages")
        .header(header::CONTENT_TYPE, kind)
        .header(header::ACCEPT, kind)
        .header(header::AUTHORIZATION, gateway.bearer(Role::Tenant));
    gateway.send(request.body(Body::from(body)).unwrap()).await
}

#[tokio::test]
async fn a_page_calls_the_handlers_by_grpc_web() {
    let gateway = Gateway::new();
    let request = frame(0, &v1::ListMessagesRequest::default().encode_to_vec());
    let kind = "application/grpc-web+proto";
    let answer = grpc_web(&gateway, kind, request.clone()).await;
    assert_eq!(
        (answer.status, &answer.headers[header::CONTENT_TYPE]),
        (StatusCode::OK, &kind.parse().unwrap())
    );
    let (head, rest) = answer.body.split_at(5);
    let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
    let page = v1::ListMessagesResponse::decode(&rest[..length]).unwrap();
    assert_eq!(page.data[0].tenant_id, TENANT.to_string());
    let trailers = String::from_utf8_lossy(&rest[length..]).into_owned();
    assert!(
        trailers.starts_with('\u{80}') || rest[length] == 0x80,
        "{trailers}"
    );
    assert!(trailers.contains("grpc-status:0"), "{trailers}");

    let request = BASE64_STANDARD.encode(request).into_bytes();
    let answer = grpc_web(&gateway, "application/grpc-web-text", request).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(!answer.body.is_empty() && answer.body.is_ascii());
}

#[tokio::test]
async fn a_page_without_a_token_is_told_so_by_grpc_web() {
    let request = Request::post("/jalur.v1.MessageService/ListMessages")
        .header(header::CONTENT_TYPE, "application/grpc-web");
    let answer = Gateway::new()
        .send(request.body(Body::from(frame(0, b""))).unwrap())
        .await;
    let status = Status::from_header_map(&answer.headers).unwrap();
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn pages_of_other_origins_may_not_call() {
    let gateway = Gateway::with(Origins::new(&[PAGE.into()]).unwrap());
    let asked = async |origin: &str| {
        let request = Request::options("/api/tenants")
            .header(header::ORIGIN, origin)
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
            .header(
                header::ACCESS_CONTROL_REQUEST_HEADERS,
                "authorization,content-type",
            );
        gateway.send(request.body(Body::empty()).unwrap()).await.headers
    };
    let may = asked(PAGE).await;
    assert_eq!(may[header::ACCESS_CONTROL_ALLOW_ORIGIN], PAGE);
    assert_eq!(
        may[header::ACCESS_CONTROL_ALLOW_HEADERS],
        "authorization,content-type"
    );
    let other = asked("https://other.example").await;
    assert!(!other.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));

    let request = Request::get("/api/tenants").header(header::ORIGIN, PAGE);
    let refused = gateway.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        refused.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN],
        PAGE,
        "errors, too, can be read"
    );
    let exposed = refused.headers[header::ACCESS_CONTROL_EXPOSE_HEADERS]
        .to_str()
        .unwrap();
    assert!(
        exposed.contains("retry-after") && exposed.contains("grpc-status"),
        "{exposed}"
    );
}

#[tokio::test]
async fn large_answers_are_compressed_for_those_who_ask() {
    let gateway = Gateway::new();
    let get = async |uri: &str, accepted: &str| {
        let request = Request::get(uri)
            .header(header::ACCEPT_ENCODING, accepted)
            .header(header::AUTHORIZATION, gateway.bearer(Role::Tenant));
        gateway.send(request.body(Body::empty()).unwrap()).await
    };
    let plain = get("/openapi.json", "identity").await;
    assert!(!plain.headers.contains_key(header::CONTENT_ENCODING));
    let packed = get("/openapi.json", "gzip").await;
    assert_eq!(packed.headers[header::CONTENT_ENCODING], "gzip");
    let mut unpacked = Vec::new();
    GzDecoder::new(&packed.body[..])
        .read_to_end(&mut unpacked)
        .unwrap();
    assert_eq!(unpacked, plain.body);
    let small = get("/api/messages", "gzip").await;
    assert!(!small.headers.contains_key(header::CONTENT_ENCODING));
}

#[tokio::test]
async fn a_call_may_be_compressed_and_may_not_become_too_large() {
    let gateway = Gateway::new();
    let mut client =
        message_service_client::MessageServiceClient::new(gateway.router.clone()).send_compressed(Gzip);
    let published = |bytes: usize| {
        let text = format!("\"{}\"", "x".repeat(bytes));
        let messages = vec![v1::NewMessage {
            id: None,
            payload: Some(v1::Json { text }),
        }];
        let tenant_id = TENANT.to_string();
        gateway.grpc(Role::Tenant, v1::PublishMessagesRequest { tenant_id, messages })
    };
    let answer = client
        .publish_messages(published(500))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.ids[0].len(), 502);
    // A hundred kilobytes of nothing are a few hundred bytes on the way here.
    let refused = client.publish_messages(published(100_000)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("larger than 1000 bytes"), "{refused}");

    let request = Request::post("/jalur.v1.MessageService/ListMessages")
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::AUTHORIZATION, gateway.bearer(Role::Tenant))
        .header("grpc-encoding", "br");
    let answer = gateway
        .send(request.body(Body::from(frame(1, b"x"))).unwrap())
        .await;
    let status = Status::from_header_map(&answer.headers).unwrap();
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(answer.headers["grpc-accept-encoding"], "gzip,identity");
}
