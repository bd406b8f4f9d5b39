//! What HTTP has beside calls: bodies, verbs, and what is refused before there is a call.

use http_body_util::StreamBody;

use super::*;

#[tokio::test]
async fn what_http_refuses_has_the_shape_of_every_error() {
    let gateway = Gateway::new();
    let shape = |rest: &Rest, code: i32, reason: &str| {
        assert_eq!(rest.headers[header::CONTENT_TYPE], "application/json");
        let json = rest.json();
        assert_eq!((&json["code"], rest.reason().as_str()), (&json!(code), reason));
        assert!(!json["message"].as_str().unwrap().is_empty());
        assert_eq!(rest.detail("RequestInfo")["request_id"], rest.request_id());
    };

    let rest = gateway.rest(Verb::GET, "/nothing", "").await;
    assert_eq!(rest.status, StatusCode::NOT_FOUND);
    shape(&rest, 5, "PATH_NOT_FOUND");

    let rest = gateway.rest(Verb::PUT, "/api/tenants", "{}").await;
    assert_eq!(rest.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(rest.headers[header::ALLOW], "GET, HEAD, OPTIONS, POST");
    shape(&rest, 12, "METHOD_NOT_ALLOWED");

    let rest = gateway.rest(Verb::POST, "/openapi.json", "{}").await;
    assert_eq!(rest.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(rest.headers[header::ALLOW], "GET, HEAD");
    shape(&rest, 12, "METHOD_NOT_ALLOWED");

    let body = format!(r#"{{"name":"{}"}}"#, "x".repeat(BODY_BYTES_MAX));
    let rest = gateway.rest(Verb::POST, "/tenants", &body).await;
    assert_eq!(rest.status, StatusCode::PAYLOAD_TOO_LARGE);
    shape(&rest, 8, "REQUEST_TOO_LARGE");

    let request = Request::post("/tenants")
        .header(header::AUTHORIZATION, gateway.bearer(Role::Admin))
        .header(header::CONTENT_TYPE, "text/plain");
    let rest = gateway.send(request.body(Body::from("{}")).unwrap()).await;
    assert_eq!(rest.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    shape(&rest, 3, "UNSUPPORTED_MEDIA_TYPE");

    let request = Request::post("/tenants")
        .header(header::AUTHORIZATION, gateway.bearer(Role::Admin))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONTENT_ENCODING, "gzip");
    let rest = gateway
        .send(request.body(Body::from("\u{1f}\u{8b}")).unwrap())
        .await;
    assert_eq!(rest.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    shape(&rest, 3, "UNSUPPORTED_ENCODING");
    let request = Request::post("/tenants")
        .header(header::AUTHORIZATION, gateway.bearer(Role::Admin))
        .header(header::CONTENT_ENCODING, "identity");
    let rest = gateway
        .send(request.body(Body::from(r#"{"name":"n"}"#)).unwrap())
        .await;
    assert_eq!(rest.status, StatusCode::CREATED);

    let rest = gateway.rest(Verb::POST, "/tenants", "{\"name\":").await;
    assert_eq!(rest.status, StatusCode::BAD_REQUEST);
    shape(&rest, 3, "INVALID_REQUEST");

    let rest = gateway.rest(Verb::GET, "/tenants", "").await;
    assert_eq!(rest.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(rest.headers[header::RETRY_AFTER], "1");
    shape(&rest, 14, "UNAVAILABLE");
    assert_eq!(rest.detail("RetryInfo")["retry_delay"], "1s");
}

#[tokio::test]
async fn a_body_without_a_length_is_limited_too() {
    let gateway = Gateway::new();
    let chunks = futures::stream::iter((0..2).map(|_| Ok::<_, axum::Error>(vec![b' '; BODY_BYTES_MAX])));
    let request = Request::post("/tenants").header(header::AUTHORIZATION, gateway.bearer(Role::Admin));
    let rest = gateway
        .send(request.body(Body::from_stream(chunks)).unwrap())
        .await;
    assert_eq!(rest.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn head_and_options_answer_without_a_body() {
    let gateway = Gateway::new();
    let rest = gateway.rest_as(Role::Tenant, Verb::HEAD, "/messages", "").await;
    assert_eq!((rest.status, rest.body.len()), (StatusCode::OK, 0));
    assert_ne!(rest.headers[header::CONTENT_LENGTH], "0");
    let rest = gateway
        .send(Request::options("/messages").body(Body::empty()).unwrap())
        .await;
    assert_eq!(rest.status, StatusCode::NO_CONTENT);
    assert_eq!(rest.headers[header::ALLOW], "GET, HEAD, OPTIONS");
}

#[tokio::test]
async fn without_a_token_nothing_is_read() {
    let gateway = Gateway::new();
    // A body that never comes.
    let body = Body::new(StreamBody::new(futures::stream::pending::<
        Result<http_body::Frame<Bytes>, axum::Error>,
    >()));
    let request = Request::post("/api/tenants").body(body).unwrap();
    let rest = gateway.send(request).await;
    assert_eq!(rest.status, StatusCode::UNAUTHORIZED);
    assert_eq!(rest.headers[header::WWW_AUTHENTICATE], "Bearer");
    assert_eq!(rest.json()["code"], 16);
    assert_eq!(rest.reason(), "TOKEN_MISSING");

    let mut client = tenant_service_client::TenantServiceClient::new(gateway.router.clone());
    let refused = client
        .list_tenants(v1::ListTenantsRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}
