//! The whole gateway, in front of handlers that answer from nothing.

mod audit;
mod bounds;
mod browsers;
mod echo;
mod journal;
mod requests;
mod streams;
mod told;

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body};
use bytes::Bytes;
use common::telemetry::{Metrics, Traces};
use http::{HeaderMap, Method as Verb, Request, StatusCode, header};
use http_body_util::BodyExt;
use proto::v1::{
    self, fleet_service_server, message_service_client, message_service_server, tenant_service_client,
    tenant_service_server,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, service::Routes};
use tower::ServiceExt;
use uuid::Uuid;

use self::{echo::Echo, journal::Book};
use super::{Console, Front, Options, Origins, Pages, router};
use crate::{
    audit::Audit,
    config,
    identity::{Keys, Role},
    limits::Callers,
    memory::Memory,
    offload::Offload,
};

const TENANT: Uuid = Uuid::from_u128(1);
const BODY_BYTES_MAX: usize = 1_000;
const MEMORY_BYTES: usize = 16 << 20;

struct Gateway {
    router: Router,
    closing: CancellationToken,
    metrics: Metrics,
    keys: Keys,
    journal: Arc<Book>,
}

/// What REST answered.
struct Rest {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Rest {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// One of an error's details.
    fn detail(&self, kind: &str) -> Value {
        let kind = format!("type.googleapis.com/google.rpc.{kind}");
        let details = self.json()["details"].take();
        let mut details = details.as_array().unwrap().iter();
        details
            .find(|detail| detail["@type"] == kind)
            .cloned()
            .unwrap_or_default()
    }

    fn reason(&self) -> String {
        self.detail("ErrorInfo")["reason"].as_str().unwrap().to_owned()
    }

    fn request_id(&self) -> &str {
        self.headers["x-request-id"].to_str().unwrap()
    }
}

impl Gateway {
    fn new() -> Self {
        Self::with(Origins::default())
    }

    fn with(origins: Origins) -> Self {
        let keys = Keys::new("a secret of thirty-two bytes, or more", "jalur", "jalur");
        let metrics = Metrics::new().unwrap();
        let (_, health) = tonic_health::server::health_reporter();
        let closing = CancellationToken::new();
        let inner = Routes::new(tenant_service_server::TenantServiceServer::new(Echo))
            .add_service(message_service_server::MessageServiceServer::new(Echo))
            .add_service(fleet_service_server::FleetServiceServer::new(Echo))
            .add_service(health);
        let journal = Arc::new(Book::default());
        let options = Options {
            audit: Audit::in_journal(journal.clone()),
            callers: Callers::new(&config::Limits::default()),
            keys: keys.clone(),
            body_bytes_max: BODY_BYTES_MAX,
            memory: Memory::new(MEMORY_BYTES),
            offload: Offload::new(),
            closing: closing.clone(),
        };
        let front = Front::new(inner, options, &metrics.meter());
        let pages = Pages {
            docs: true,
            console: Some(Console { sign_in: None }),
        };
        Self {
            router: router(front, origins, pages, Traces::default()),
            closing,
            metrics,
            keys,
            journal,
        }
    }

    fn bearer(&self, role: Role) -> String {
        let tenant = role.is_of_a_tenant().then_some(TENANT);
        let token = self
            .keys
            .mint(role, tenant, "test", Duration::from_secs(60))
            .unwrap();
        format!("Bearer {token}")
    }

    async fn send(&self, request: Request<Body>) -> Rest {
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        Rest {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    /// As an admin.
    async fn rest(&self, verb: Verb, uri: &str, body: &str) -> Rest {
        self.rest_as(Role::Admin, verb, uri, body).await
    }

    async fn rest_as(&self, role: Role, verb: Verb, uri: &str, body: &str) -> Rest {
        let request = Request::builder()
            .method(verb)
            .uri(uri)
            .header(header::AUTHORIZATION, self.bearer(role))
            .header(header::CONTENT_TYPE, "application/json; charset=utf-8");
        self.send(request.body(Body::from(body.to_owned())).unwrap())
            .await
    }

    fn grpc<T>(&self, role: Role, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        let bearer = self.bearer(role).parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
        request
    }
}

#[tokio::test]
async fn both_faces_reach_the_same_handler_with_the_caller() {
    let gateway = Gateway::new();
    let rest = gateway
        .rest_as(
            Role::Tenant,
            Verb::GET,
            "/api/messages?cursor=9007199254740993",
            "",
        )
        .await;
    assert_eq!(rest.status, StatusCode::OK);
    assert_eq!(rest.headers[header::CONTENT_TYPE], "application/json");
    let body = String::from_utf8(rest.body.to_vec()).unwrap();
    assert!(body.contains(&format!("\"tenant_id\":\"{TENANT}\"")), "{body}");
    assert!(body.contains("\"payload\":1.10"), "{body}");
    assert!(body.contains("\"next_cursor\":\"9007199254740993\""), "{body}");

    let mut client = message_service_client::MessageServiceClient::new(gateway.router.clone());
    let request = gateway.grpc(Role::Tenant, v1::ListMessagesRequest::default());
    let page = client.list_messages(request).await.unwrap().into_inner();
    assert_eq!(page.data[0].tenant_id, TENANT.to_string());
}

#[tokio::test]
async fn creating_is_201_and_answers_the_thing_itself() {
    let body = r#"{"name":"acme","status":"paused"}"#;
    let rest = Gateway::new().rest(Verb::POST, "/tenants", body).await;
    assert_eq!(rest.status, StatusCode::CREATED);
    assert_eq!(
        rest.json(),
        json!({"id": TENANT, "name": "acme", "description": "", "status": "paused", "workers": 0})
    );
}

#[tokio::test]
async fn a_payload_goes_through_as_it_is() {
    let body = r#"{"messages":[{"payload":{"n": 1.10, "n": 12345678901234567890123}},{"payload":null}]}"#;
    let rest = Gateway::new()
        .rest(Verb::POST, &format!("/tenants/{TENANT}/messages"), body)
        .await;
    assert_eq!(
        rest.json(),
        json!({"ids": [r#"{"n": 1.10, "n": 12345678901234567890123}"#, "null"]})
    );
}

#[tokio::test]
async fn roles_and_tenants_are_kept_apart_on_both_faces() {
    let gateway = Gateway::new();
    let rest = gateway.rest_as(Role::Tenant, Verb::GET, "/tenants", "").await;
    assert_eq!(
        (rest.status, &rest.json()["code"]),
        (StatusCode::FORBIDDEN, &json!(7))
    );
    let other = format!("/tenants/{}", Uuid::from_u128(2));
    let rest = gateway.rest_as(Role::Tenant, Verb::GET, &other, "").await;
    assert_eq!(rest.status, StatusCode::FORBIDDEN);
    let rest = gateway.rest(Verb::GET, &other, "").await;
    assert_eq!(rest.status, StatusCode::NOT_FOUND);
    let rest = gateway.rest(Verb::GET, "/tenants/x", "").await;
    assert_eq!(rest.status, StatusCode::BAD_REQUEST);
    assert!(
        rest.json()["message"]
            .as_str()
            .unwrap()
            .starts_with("id must be a UUID")
    );

    let mut client = tenant_service_client::TenantServiceClient::new(gateway.router.clone());
    let request = gateway.grpc(Role::Tenant, v1::ListTenantsRequest::default());
    assert_eq!(
        client.list_tenants(request).await.unwrap_err().code(),
        Code::PermissionDenied
    );
}

#[tokio::test]
async fn a_fault_of_ours_is_told_on_neither_face() {
    let gateway = Gateway::new();
    let rest = gateway.rest(Verb::PATCH, "/tenants/x", "{}").await;
    assert_eq!(rest.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!rest.json().to_string().contains("hunter2"));

    let mut client = tenant_service_client::TenantServiceClient::new(gateway.router.clone());
    let request = gateway.grpc(Role::Admin, v1::UpdateTenantRequest::default());
    let status = client.update_tenant(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert!(!status.message().contains("hunter2"));
}

#[tokio::test]
async fn health_is_public_and_unknown_methods_are_unimplemented() {
    let gateway = Gateway::new();
    let mut client = tonic_health::pb::health_client::HealthClient::new(gateway.router.clone());
    let request = tonic_health::pb::HealthCheckRequest::default();
    assert!(client.check(request).await.is_ok());

    for path in ["/jalur.v1.TenantService/Nothing", "/nothing", "/api/tenants"] {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/grpc");
        let answer = gateway.send(request.body(Body::empty()).unwrap()).await;
        let status = Status::from_header_map(&answer.headers).unwrap();
        assert_eq!(
            (answer.status, status.code()),
            (StatusCode::OK, Code::Unimplemented),
            "{path}"
        );
    }
}

#[tokio::test]
async fn calls_are_counted_under_bounded_names() {
    let gateway = Gateway::new();
    gateway
        .rest_as(
            Role::Tenant,
            Verb::GET,
            &format!("/tenants/{TENANT}/messages"),
            "",
        )
        .await;
    gateway
        .rest(Verb::from_bytes(b"FROB").unwrap(), "/some/path", "")
        .await;
    let mut client = message_service_client::MessageServiceClient::new(gateway.router.clone());
    let request = gateway.grpc(Role::Tenant, v1::ListMessagesRequest::default());
    client.list_messages(request).await.unwrap();
    let text = gateway.metrics.render().unwrap();
    for line in [
        r#"jalur_http_requests_total{code="200",method="GET",route="/tenants/{tenant_id}/messages"} 1"#,
        r#"jalur_http_requests_total{code="404",method="other",route="unknown"} 1"#,
        r#"jalur_rpc_duration_seconds_count{code="OK",method="jalur.v1.MessageService/ListMessages"} 2"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn the_document_and_its_page_are_served_from_here() {
    let gateway = Gateway::new();
    let get = async |uri: &str| gateway.send(Request::get(uri).body(Body::empty()).unwrap()).await;
    assert_eq!(get("/openapi.json").await.json(), super::openapi());
    assert_eq!(get("/docs").await.headers[header::LOCATION], "/docs/");
    let page = get("/docs/").await;
    assert!(
        page.headers[header::CONTENT_TYPE]
            .to_str()
            .unwrap()
            .starts_with("text/html")
    );
    let page = String::from_utf8_lossy(&page.body).into_owned();
    assert!(!page.contains("http://") && !page.contains("https://"), "{page}");
    let start = get("/docs/swagger-initializer.js").await;
    assert!(String::from_utf8_lossy(&start.body).contains("/openapi.json"));
    assert_eq!(get("/docs/swagger-ui-bundle.js").await.status, StatusCode::OK);
    assert_eq!(get("/docs/nothing.js").await.json()["code"], 5);
}
