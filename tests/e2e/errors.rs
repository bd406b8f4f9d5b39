//! What is said of a request beside its answer: its id, wherever it goes, and of a failed one why.

use control_plane::identity::Role;
use proto::v1::{self, tenant_service_client::TenantServiceClient};
use reqwest::{Method, header::HeaderValue};
use serde_json::{Value, json};
use tests::Answer;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::support::{Options, Stack, eventually};

/// An error's detail of a kind.
fn detail<'a>(body: &'a Value, kind: &str) -> &'a Value {
    let kind = format!("type.googleapis.com/google.rpc.{kind}");
    let details = body["details"].as_array().unwrap();
    let found = details.iter().find(|detail| detail["@type"] == kind);
    found.unwrap_or(&Value::Null)
}

fn request_id(answer: &Answer) -> &HeaderValue {
    &answer.headers["x-request-id"]
}

#[tokio::test]
async fn every_error_says_its_reason_its_field_and_its_request() {
    let stack = Stack::start(Options::default()).await;
    let admin = stack.admin();
    let tenant = stack.tenant("acme").await;
    let own = stack.token(Role::Tenant, Some(tenant.0));
    let gone = stack.token(Role::Tenant, Some(Uuid::now_v7()));
    let nowhere = format!("/api/tenants/{}", Uuid::now_v7());
    let messages = format!("/api/tenants/{tenant}/messages");
    let json = |body: Value| Some(("application/json", body.to_string().into_bytes()));
    for (method, path, token, body, status, reason, field) in [
        (Method::GET, "/api/tenants", "", None, 401, "TOKEN_MISSING", None),
        (Method::GET, "/api/tenants", "x", None, 401, "TOKEN_INVALID", None),
        (Method::GET, "/messages", &gone, None, 401, "TENANT_GONE", None),
        (Method::GET, "/api/tenants", &own, None, 403, "ROLE_DENIED", None),
        (Method::GET, &nowhere, &own, None, 403, "TENANT_DENIED", None),
        (Method::GET, &nowhere, &admin, None, 404, "TENANT_NOT_FOUND", None),
        (
            Method::POST,
            "/api/daemons/x/drain",
            &admin,
            json(json!({})),
            404,
            "DAEMON_NOT_FOUND",
            None,
        ),
        (Method::GET, "/nothing", &admin, None, 404, "PATH_NOT_FOUND", None),
        (
            Method::PUT,
            "/api/tenants",
            &admin,
            None,
            405,
            "METHOD_NOT_ALLOWED",
            None,
        ),
        (
            Method::POST,
            "/api/tenants",
            &admin,
            json(json!({ "name": "acme" })),
            409,
            "ALREADY_EXISTS",
            None,
        ),
        (
            Method::POST,
            "/api/tenants",
            &admin,
            json(json!({ "name": "" })),
            400,
            "INVALID_FIELD",
            Some("name"),
        ),
        (
            Method::POST,
            &messages,
            &own,
            json(json!({ "messages": [{ "payload": 1 }, { "id": "x", "payload": 1 }] })),
            400,
            "INVALID_FIELD",
            Some("messages[1].id"),
        ),
        (
            Method::POST,
            &messages,
            &own,
            json(json!({ "messages": [{ "payload": "x".repeat(1 << 20) }] })),
            413,
            "REQUEST_TOO_LARGE",
            Some("messages[0].payload"),
        ),
        (
            Method::POST,
            "/api/tenants",
            &admin,
            Some(("text/plain", Vec::new())),
            415,
            "UNSUPPORTED_MEDIA_TYPE",
            None,
        ),
    ] {
        let answer = stack.send(method, path, token, body).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
        let info = detail(&answer.json, "ErrorInfo");
        assert_eq!(
            (&info["reason"], &info["domain"]),
            (&json!(reason), &json!("jalur"))
        );
        let blamed = detail(&answer.json, "BadRequest");
        assert_eq!(
            blamed["field_violations"][0]["field"].as_str(),
            field,
            "{path}: {blamed}"
        );
        let request = &detail(&answer.json, "RequestInfo")["request_id"];
        assert_eq!(request.as_str().unwrap(), request_id(&answer));
    }
}

#[tokio::test]
async fn a_requests_id_is_in_its_answer_over_grpc_and_in_the_log() {
    let stack = Stack::without_daemons().await;
    let mut tenants = TenantServiceClient::new(
        Channel::from_shared(stack.url())
            .unwrap()
            .connect()
            .await
            .unwrap(),
    );
    let mut call = tonic::Request::new(v1::CreateTenantRequest {
        name: "acme".into(),
        status: v1::TenantStatus::Paused.into(),
        ..Default::default()
    });
    let metadata = call.metadata_mut();
    metadata.insert("x-request-id", "over-grpc.1".parse().unwrap());
    metadata.insert(
        "authorization",
        format!("Bearer {}", stack.admin()).parse().unwrap(),
    );
    let answer = tenants.create_tenant(call).await.unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), "over-grpc.1");
    let refused = tenants
        .list_tenants(v1::ListTenantsRequest::default())
        .await
        .unwrap_err();
    let id = refused.metadata().get("x-request-id").unwrap();
    assert!(Uuid::try_parse(id.to_str().unwrap()).is_ok());
    assert!(
        !refused.details().is_empty(),
        "its reason is in the trailers' details"
    );
    eventually("the call is in the log, under its id", async || {
        let log = stack.control_plane().log_tail(100);
        log.lines()
            .any(|line| line.contains("over-grpc.1") && line.contains("CreateTenant"))
    })
    .await;
}
