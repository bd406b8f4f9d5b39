//! What is written down of calls, whichever face they come by.

use std::{net::SocketAddr, sync::atomic::Ordering};

use axum::extract::ConnectInfo;
use http::header::AUTHORIZATION;
use tonic::Code;

use super::{echo::NEVER, journal::Entry, *};

const PEER: ([u8; 4], u16) = ([192, 0, 2, 7], 1_234);

impl Gateway {
    /// A request from an address of its own, under an id.
    async fn named(&self, id: &str, verb: Verb, uri: &str, authorization: &str, body: &str) -> Rest {
        let request = Request::builder()
            .method(verb)
            .uri(uri)
            .header("x-request-id", id)
            .header(AUTHORIZATION, authorization)
            .extension(ConnectInfo(SocketAddr::from(PEER)));
        self.send(request.body(Body::from(body.to_owned())).unwrap())
            .await
    }

    /// What was written last.
    fn written(&self) -> Entry {
        self.journal.entries().pop().unwrap()
    }
}

#[tokio::test]
async fn a_change_is_written_down_with_who_what_and_how_it_ended() {
    let gateway = Gateway::new();
    let body = r#"{"name":"acme","status":"paused"}"#;
    let admin = gateway.bearer(Role::Admin);
    gateway.named("r-1", Verb::POST, "/tenants", &admin, body).await;
    let written = Entry {
        method: "jalur.v1.TenantService/CreateTenant",
        request: "r-1".into(),
        subject: Some("test".into()),
        address: Some("192.0.2.7".into()),
        tenant: Some(TENANT.to_string()),
        summary: r#"name="acme" status="paused""#.into(),
        code: Some(Code::Ok),
        message: String::new(),
        left_out: 0,
    };
    assert_eq!(gateway.journal.entries(), std::slice::from_ref(&written));

    let mut client = tenant_service_client::TenantServiceClient::new(gateway.router.clone());
    let request = v1::CreateTenantRequest {
        name: "acme".into(),
        status: v1::TenantStatus::Paused.into(),
        ..Default::default()
    };
    let mut request = gateway.grpc(Role::Admin, request);
    request
        .metadata_mut()
        .insert("x-request-id", "r-2".parse().unwrap());
    client.create_tenant(request).await.unwrap();
    let over_grpc = Entry {
        request: "r-2".into(),
        // It came from nowhere.
        address: None,
        ..written
    };
    assert_eq!(gateway.written(), over_grpc);
}

#[tokio::test]
async fn what_was_refused_is_written_down_too_and_by_whom_as_far_as_that_is_known() {
    let gateway = Gateway::new();
    let other = Uuid::from_u128(2);
    let (uri, workers) = (
        format!("/tenants/{other}"),
        format!("/tenants/{other}/config/concurrency"),
    );
    let admin = gateway.bearer(Role::Admin);
    for (verb, uri, authorization, body, code, subject) in [
        (Verb::DELETE, &uri, "", "", Code::Unauthenticated, None),
        (Verb::DELETE, &uri, "Bearer x", "", Code::Unauthenticated, None),
        (
            Verb::DELETE,
            &uri,
            &gateway.bearer(Role::Tenant),
            "",
            Code::PermissionDenied,
            Some("test"),
        ),
        (
            Verb::PUT,
            &workers,
            &admin,
            "{\"workers\":\"x\"}",
            Code::InvalidArgument,
            Some("test"),
        ),
        (
            Verb::PUT,
            &workers,
            &admin,
            "{",
            Code::InvalidArgument,
            Some("test"),
        ),
        (Verb::PATCH, &uri, &admin, "{}", Code::Internal, Some("test")),
    ] {
        let rest = gateway.named("r", verb, uri, authorization, body).await;
        let written = gateway.written();
        assert_eq!(
            (written.code, written.subject.as_deref()),
            (Some(code), subject),
            "{uri}"
        );
        assert_eq!(written.tenant, Some(other.to_string()), "{uri}");
        assert_eq!(rest.json()["message"], written.message.as_str());
        assert!(!written.message.contains("hunter2"));
    }
    assert_eq!(gateway.journal.entries().len(), 6);

    let mut client = tenant_service_client::TenantServiceClient::new(gateway.router.clone());
    let request = v1::DeleteTenantRequest {
        id: other.to_string(),
    };
    client.delete_tenant(request).await.unwrap_err();
    assert_eq!(gateway.written().code, Some(Code::Unauthenticated));
}

#[tokio::test]
async fn reading_and_publishing_are_not_written_down_but_a_publisher_that_is_denied_is() {
    let gateway = Gateway::new();
    let tenant = gateway.bearer(Role::Tenant);
    let messages = format!("/tenants/{TENANT}/messages");
    let body = r#"{"messages":[{"payload":"hunter2"}]}"#;
    gateway.named("r", Verb::GET, "/messages", &tenant, "").await;
    gateway.named("r", Verb::GET, "/messages", "", "").await;
    gateway.named("r", Verb::POST, &messages, &tenant, body).await;
    gateway.named("r", Verb::POST, &messages, &tenant, "{").await;
    assert_eq!(gateway.journal.entries(), []);

    let daemon = gateway.bearer(Role::Daemon);
    gateway.named("r", Verb::POST, &messages, &daemon, body).await;
    let written = gateway.written();
    assert_eq!(written.code, Some(Code::PermissionDenied));
    assert_eq!(written.tenant, Some(TENANT.to_string()));
    assert!(!format!("{written:?}").contains("hunter2"));
}

#[tokio::test]
async fn what_cannot_be_written_down_is_not_done() {
    let gateway = Gateway::new();
    gateway.journal.is_broken.store(true, Ordering::Relaxed);
    let rest = gateway.rest(Verb::POST, "/tenants", r#"{"name":"n"}"#).await;
    assert_eq!(rest.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(rest.reason(), "AUDIT_UNAVAILABLE");
    let mut client = tenant_service_client::TenantServiceClient::new(gateway.router.clone());
    let request = gateway.grpc(Role::Admin, v1::CreateTenantRequest::default());
    let refused = client.create_tenant(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    // What changes nothing is answered, and what is refused anyway is refused for that.
    let rest = gateway.rest_as(Role::Tenant, Verb::GET, "/messages", "").await;
    assert_eq!(rest.status, StatusCode::OK);
    let rest = gateway.rest_as(Role::Tenant, Verb::POST, "/tenants", "{}").await;
    assert_eq!(rest.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_flood_of_bad_tokens_is_counted_and_hides_nobody_else() {
    let gateway = Gateway::new();
    for _ in 0..100 {
        let rest = gateway.named("r", Verb::POST, "/tenants", "Bearer x", "{}").await;
        assert_eq!(rest.status, StatusCode::UNAUTHORIZED);
    }
    let written = gateway.journal.entries();
    // A hundred take no time, or a few seconds where the machine is busy; what is written says what is not.
    let left_out: u64 = written.iter().map(|entry| entry.left_out).sum();
    assert!(written.len() as u64 + left_out <= 100 && written.len() < 100);
    let tenant = gateway.bearer(Role::Tenant);
    gateway
        .named("known", Verb::POST, "/tenants", &tenant, "{}")
        .await;
    assert_eq!(gateway.written().request, "known");
}

#[tokio::test]
async fn a_call_that_is_broken_off_says_that_it_may_have_been_done() {
    let gateway = Gateway::new();
    let mut request = Request::put(format!("/tenants/{TENANT}/config/concurrency"))
        .header(AUTHORIZATION, gateway.bearer(Role::Admin))
        .body(Body::from(format!("{{\"workers\":{NEVER}}}")))
        .unwrap();
    request
        .extensions_mut()
        .insert(ConnectInfo(SocketAddr::from(PEER)));
    let call = tokio::spawn(gateway.router.clone().oneshot(request));
    let code = async |wanted: Option<Code>| {
        while gateway.journal.entries().first().map(|entry| entry.code) != Some(wanted) {
            tokio::task::yield_now().await;
        }
    };
    // Its handler never answers.
    code(None).await;
    call.abort();
    code(Some(Code::Cancelled)).await;
    assert!(gateway.written().message.contains("may have been done"));
}
