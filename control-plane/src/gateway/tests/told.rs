//! What is said of a request beside its answer: its id, and of a failed one why, for programs.

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use tonic_types::StatusExt as _;

use super::*;

/// What the gateway answers to a call over gRPC, with the headers as they are.
async fn call(
    gateway: &Gateway,
    path: &str,
    headers: &[(&str, &str)],
    message: &[u8],
) -> (HeaderMap, Status) {
    let mut request = Request::post(path).header(CONTENT_TYPE, "application/grpc");
    for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
        request = request.header(*name, *value);
    }
    let mut body = vec![0];
    body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend(message);
    let request = request.body(Body::from(body)).unwrap();
    let answer = gateway.router.clone().oneshot(request).await.unwrap();
    let (parts, body) = answer.into_parts();
    let collected = body.collect().await.unwrap();
    let said = match collected.trailers() {
        Some(trailers) => Status::from_header_map(trailers),
        None => Status::from_header_map(&parts.headers),
    };
    (parts.headers, said.unwrap())
}

#[tokio::test]
async fn every_answer_has_a_request_id_and_a_callers_own_is_kept() {
    let gateway = Gateway::new();
    let admin = gateway.bearer(Role::Admin);
    for (verb, uri, authorization, status) in [
        (Verb::GET, "/api/messages", gateway.bearer(Role::Tenant), 200),
        (Verb::HEAD, "/api/messages", gateway.bearer(Role::Tenant), 200),
        (Verb::OPTIONS, "/api/messages", String::new(), 204),
        (Verb::GET, "/api/tenants", String::new(), 401),
        (Verb::GET, "/api/tenants", gateway.bearer(Role::Tenant), 403),
        (Verb::GET, "/nothing", String::new(), 404),
        (Verb::PUT, "/api/tenants", admin.clone(), 405),
        (Verb::PATCH, "/api/tenants/x", admin.clone(), 500),
        (Verb::GET, "/api/tenants", admin, 503),
        (Verb::GET, "/openapi.json", String::new(), 200),
        (Verb::POST, "/openapi.json", String::new(), 405),
        (Verb::GET, "/docs", String::new(), 308),
        (Verb::GET, "/docs/", String::new(), 200),
        (Verb::GET, "/docs/nothing", String::new(), 404),
    ] {
        let send = async |id: &str| {
            let request = Request::builder().method(&verb).uri(uri);
            let request = request
                .header(AUTHORIZATION, &authorization)
                .header("x-request-id", id);
            let rest = gateway.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(rest.status.as_u16(), status, "{verb} {uri}");
            rest
        };
        let rest = send("my.own_id-1").await;
        assert_eq!(rest.request_id(), "my.own_id-1", "{verb} {uri}");
        if status >= 400 {
            assert_eq!(rest.detail("RequestInfo")["request_id"], "my.own_id-1");
        }
        let rest = send("no id: \"it breaks lines\"").await;
        assert!(Uuid::try_parse(rest.request_id()).is_ok(), "{verb} {uri}");
    }
}

#[tokio::test]
async fn grpc_says_the_request_and_the_reason_in_headers_and_in_trailers() {
    let gateway = Gateway::new();
    let admin = gateway.bearer(Role::Admin);
    let tenant = gateway.bearer(Role::Tenant);
    let tenants = |method: &str| format!("/jalur.v1.TenantService/{method}");
    let garbage: &[u8] = &[0x0a, 0xff];
    for (path, authorization, message, reason, code) in [
        (
            tenants("ListTenants"),
            "",
            &[][..],
            "TOKEN_MISSING",
            Code::Unauthenticated,
        ),
        (
            tenants("ListTenants"),
            "Bearer x",
            &[],
            "TOKEN_INVALID",
            Code::Unauthenticated,
        ),
        (
            tenants("ListTenants"),
            &tenant,
            &[],
            "ROLE_DENIED",
            Code::PermissionDenied,
        ),
        (
            tenants("ListTenants"),
            &admin,
            &[],
            "UNAVAILABLE",
            Code::Unavailable,
        ),
        (tenants("UpdateTenant"), &admin, &[], "INTERNAL", Code::Internal),
        (
            tenants("GetTenant"),
            &admin,
            &[],
            "INVALID_FIELD",
            Code::InvalidArgument,
        ),
        (
            tenants("GetTenant"),
            &admin,
            garbage,
            "INVALID_REQUEST",
            Code::InvalidArgument,
        ),
        (
            tenants("Nothing"),
            &admin,
            &[],
            "NOT_IMPLEMENTED",
            Code::Unimplemented,
        ),
        (
            "/nothing".to_owned(),
            "",
            &[],
            "NOT_IMPLEMENTED",
            Code::Unimplemented,
        ),
    ] {
        let headers = [("authorization", authorization), ("x-request-id", "mine")];
        let (headers, status) = call(&gateway, &path, &headers, message).await;
        assert_eq!(headers["x-request-id"], "mine", "{path}");
        assert_eq!(status.code(), code, "{path}: {status}");
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "jalur"));
        assert_eq!(details.request_info().unwrap().request_id, "mine");
        assert_eq!(details.retry_info().is_some(), code == Code::Unavailable);
    }
    let (headers, status) = call(&gateway, "/grpc.health.v1.Health/Check", &[], &[]).await;
    assert_eq!(status.code(), Code::Ok);
    assert!(Uuid::try_parse(headers["x-request-id"].to_str().unwrap()).is_ok());
    assert!(status.details().is_empty());
}

#[tokio::test]
async fn the_field_that_is_to_blame_is_named_on_both_faces() {
    let gateway = Gateway::new();
    for (verb, uri, body, field) in [
        (Verb::POST, "/tenants", r#"{"name":7}"#, "name"),
        (Verb::POST, "/tenants", r#"{"nam":"x"}"#, "nam"),
        (Verb::GET, "/tenants/x", "", "id"),
        (Verb::GET, "/messages?limit=ten", "", "limit"),
        (
            Verb::POST,
            "/tenants/x/messages",
            r#"{"messages":[{"payload":1},{"id":1}]}"#,
            "messages[1].id",
        ),
    ] {
        let rest = gateway.rest(verb, uri, body).await;
        assert_eq!(rest.reason(), "INVALID_FIELD", "{uri}");
        let violations = rest.detail("BadRequest")["field_violations"].take();
        assert_eq!(violations[0]["field"], field, "{uri}");
        assert!(!violations[0]["description"].as_str().unwrap().is_empty());
    }
    let headers = [("authorization", gateway.bearer(Role::Admin))];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let (_, status) = call(&gateway, "/jalur.v1.TenantService/GetTenant", &headers, &[]).await;
    let blamed = status.get_details_bad_request().unwrap();
    assert_eq!(blamed.field_violations[0].field, "id");
}
