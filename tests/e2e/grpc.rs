//! gRPC: the same handlers, with reflection and health for clients that have no protos.

use control_plane::identity::Role;
use proto::v1::{
    self, message_service_client::MessageServiceClient, tenant_service_client::TenantServiceClient,
};
use tonic::{Code, Request, Status, transport::Channel};
use uuid::Uuid;

use crate::support::{Options, Stack, eventually};

pub(crate) async fn channel(stack: &Stack) -> Channel {
    Channel::from_shared(stack.url())
        .unwrap()
        .connect()
        .await
        .unwrap()
}

pub(crate) fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

#[tokio::test]
async fn a_tenants_whole_life_over_grpc() {
    let stack = Stack::start(Options::default()).await;
    let admin = stack.admin();
    let mut tenants = TenantServiceClient::new(channel(&stack).await);
    let mut messages = MessageServiceClient::new(channel(&stack).await);

    let create = v1::CreateTenantRequest {
        name: "over grpc".into(),
        ..Default::default()
    };
    let tenant = tenants
        .create_tenant(with_token(create, &admin))
        .await
        .unwrap()
        .into_inner()
        .tenant
        .unwrap();
    assert_eq!(tenant.status(), v1::TenantStatus::Active);
    assert_eq!(tenant.runtime.unwrap().consumers.len(), 1);
    let tenant_id = tenant.id;

    let list = tenants
        .list_tenants(with_token(v1::ListTenantsRequest::default(), &admin))
        .await
        .unwrap();
    assert_eq!(list.into_inner().tenants.len(), 1);

    let set = v1::SetConcurrencyRequest {
        tenant_id: tenant_id.clone(),
        workers: 7,
    };
    let set = tenants
        .set_concurrency(with_token(set, &admin))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((set.workers, set.applied), (7, true));

    let text = r#"{"n": 1.50}"#;
    let payload = Some(v1::Json { text: text.into() });
    let publish = v1::PublishMessagesRequest {
        tenant_id: tenant_id.clone(),
        messages: vec![v1::NewMessage { id: None, payload }],
    };
    let ids = messages
        .publish_messages(with_token(publish, &admin))
        .await
        .unwrap()
        .into_inner()
        .ids;
    let read = v1::ListMessagesRequest {
        tenant_id: tenant_id.clone(),
        ..Default::default()
    };
    eventually("the message is stored", async || {
        let page = messages
            .clone()
            .list_messages(with_token(read.clone(), &admin))
            .await
            .unwrap()
            .into_inner();
        page.data.first().is_some_and(|message| {
            message.id == ids[0]
                && message
                    .payload
                    .as_ref()
                    .is_some_and(|payload| payload.text == text)
        })
    })
    .await;

    let delete = v1::DeleteTenantRequest {
        id: tenant_id.clone(),
    };
    tenants.delete_tenant(with_token(delete, &admin)).await.unwrap();
    let get = tenants
        .get_tenant(with_token(v1::GetTenantRequest { id: tenant_id }, &admin))
        .await;
    assert_eq!(get.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn errors_have_the_code_of_their_kind() {
    let stack = Stack::without_daemons().await;
    let mut tenants = TenantServiceClient::new(channel(&stack).await);
    let own = stack.tenant("own").await;
    let get = |id: String| v1::GetTenantRequest { id };
    let code = |result: Result<_, Status>| {
        result
            .map(|_: tonic::Response<v1::GetTenantResponse>| ())
            .unwrap_err()
            .code()
    };
    assert_eq!(
        code(tenants.get_tenant(get(own.to_string())).await),
        Code::Unauthenticated
    );
    let foreign = with_token(
        get(Uuid::now_v7().to_string()),
        &stack.token(Role::Tenant, Some(own.0)),
    );
    assert_eq!(code(tenants.get_tenant(foreign).await), Code::PermissionDenied);
    assert_eq!(
        code(
            tenants
                .get_tenant(with_token(get("x".into()), &stack.admin()))
                .await
        ),
        Code::InvalidArgument
    );
    let nobody = with_token(get(Uuid::now_v7().to_string()), &stack.admin());
    assert_eq!(code(tenants.get_tenant(nobody).await), Code::NotFound);
}
