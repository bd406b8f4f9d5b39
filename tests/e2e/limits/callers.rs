//! What each caller may do, and how much there may be in all.

use control_plane::identity::Role;
use proto::v1::{ListTenantsRequest, tenant_service_client::TenantServiceClient};
use serde_json::json;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

use crate::support::{Options, Stack};

async fn stack(env: &[(&'static str, &str)]) -> Stack {
    let env = env.iter().map(|(key, value)| (*key, (*value).to_owned()));
    Stack::start(Options {
        daemons: 0,
        control_plane_env: env.collect(),
        ..Options::default()
    })
    .await
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_ask_again_and_nobody_else_is() {
    let stack = stack(&[("JALUR_LIMITS__REQUESTS_PER_SECOND", "20")]).await;
    let tenant = stack.tenant("hasty").await;
    let hasty = stack.token(Role::Tenant, Some(tenant.0));
    let path = format!("/api/tenants/{tenant}/messages");
    // Whatever the machine does meanwhile, a hundred do not take five seconds.
    let mut refused = None;
    for _ in 0..100 {
        let answer = stack.send(reqwest::Method::GET, &path, &hasty, None).await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
        assert_eq!(answer.status, 200);
    }
    let refused = refused.expect("a hundred requests at once are more than twenty a second");
    assert_eq!(refused.headers["retry-after"], "1");
    let message = refused.json["message"].as_str().unwrap();
    assert!(message.contains("limits.requests_per_second"), "{message}");
    assert_eq!(refused.json["details"][0]["reason"], "RATE_LIMITED");
    // The operator asks on.
    let own = format!("/api/tenants/{tenant}");
    assert_eq!(stack.get(&own, &stack.admin()).await.0, 200);

    // The same by gRPC, and it counts together.
    let channel = tonic::transport::Channel::from_shared(stack.url()).unwrap();
    let mut client = TenantServiceClient::new(channel.connect().await.unwrap());
    let mut told = None;
    for _ in 0..100 {
        let mut request = Request::new(ListTenantsRequest::default());
        let token = format!("Bearer {}", stack.admin()).parse().unwrap();
        request.metadata_mut().insert("authorization", token);
        if let Err(status) = client.list_tenants(request).await {
            told = Some(status);
            break;
        }
    }
    let told = told.expect("a hundred calls at once are more than twenty a second");
    assert_eq!(told.code(), Code::ResourceExhausted, "{told}");
    assert!(told.get_details_retry_info().is_some());
}

#[tokio::test]
async fn there_are_so_many_tenants_and_no_more() {
    let stack = stack(&[("JALUR_LIMITS__TENANTS", "2")]).await;
    let create = async |id: Option<uuid::Uuid>, name: &str| {
        let body = json!({ "id": id, "name": name });
        stack.post("/api/tenants", &stack.admin(), &body).await
    };
    let (id, other) = (uuid::Uuid::now_v7(), uuid::Uuid::now_v7());
    assert_eq!(create(Some(id), "one").await.0, 201);
    let (two, three) = tokio::join!(create(Some(other), "two"), create(None, "three"));
    let mut statuses = [two.0, three.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409], "{two:?} {three:?}");
    // Again is no new one.
    assert_eq!(create(Some(id), "one").await.0, 201);
    let (status, refused) = create(None, "four").await;
    assert_eq!(status, 409);
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("limits.tenants"), "{message}");
    let path = format!("/api/tenants/{id}");
    assert_eq!(stack.delete(&path, &stack.admin()).await.0, 200);
    assert_eq!(create(None, "four").await.0, 201);
}

#[tokio::test]
async fn documents_and_reflection_can_be_turned_off() {
    let stack = stack(&[("JALUR_HTTP__DOCS", "false"), ("JALUR_GRPC__REFLECTION", "false")]).await;
    for path in ["/docs", "/docs/", "/openapi.json"] {
        assert_eq!(stack.get(path, "").await.0, 404, "{path}");
    }
    // In HTTP's words a call that gRPC refuses is answered, and says so in a header.
    let answer = local::http::client()
        .post(format!(
            "{}/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            stack.url()
        ))
        .header("content-type", "application/grpc")
        .send()
        .await
        .unwrap();
    let code = (Code::Unimplemented as i32).to_string();
    assert_eq!(answer.headers()["grpc-status"], code.as_str());
    assert_eq!(stack.get("/api/tenants", &stack.admin()).await.0, 200);
}
