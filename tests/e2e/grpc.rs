//! gRPC: the same handlers, with reflection and health for clients that have no protos.

use control_plane::identity::Role;
use proto::v1::{
    self, fleet_service_client::FleetServiceClient, message_service_client::MessageServiceClient,
    tenant_service_client::TenantServiceClient, watch_request,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming, transport::Channel};
use uuid::Uuid;

use crate::support::{Options, Stack, eventually};

async fn channel(stack: &Stack) -> Channel {
    Channel::from_shared(stack.url())
        .unwrap()
        .connect()
        .await
        .unwrap()
}

fn with_token<T>(message: T, token: &str) -> Request<T> {
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
    let stack = Stack::start(Options {
        daemons: 0,
        ..Options::default()
    })
    .await;
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

async fn watch(
    stack: &Stack,
    token: &str,
    first: watch_request::Message,
) -> Result<
    (
        tokio::sync::mpsc::Sender<v1::WatchRequest>,
        Streaming<v1::WatchResponse>,
    ),
    Status,
> {
    let (sender, requests) = tokio::sync::mpsc::channel(8);
    sender
        .send(v1::WatchRequest { message: Some(first) })
        .await
        .unwrap();
    let mut client = FleetServiceClient::new(channel(stack).await);
    let response = client
        .watch(with_token(ReceiverStream::new(requests), token))
        .await?;
    Ok((sender, response.into_inner()))
}

fn hello(daemon_id: &str) -> v1::Hello {
    v1::Hello {
        daemon_id: daemon_id.into(),
        incarnation: Uuid::now_v7().to_string(),
        capacity: 100,
        ..Default::default()
    }
}

#[tokio::test]
async fn a_watch_needs_a_daemons_token_and_begins_with_a_hello() {
    let stack = Stack::start(Options {
        daemons: 0,
        ..Options::default()
    })
    .await;
    let tenant = stack.tenant("t").await;
    let hello = || watch_request::Message::Hello(hello("d1"));
    for (token, wanted) in [
        (stack.token(Role::Tenant, Some(tenant.0)), Code::PermissionDenied),
        (stack.admin(), Code::PermissionDenied),
        ("nonsense".to_owned(), Code::Unauthenticated),
    ] {
        assert_eq!(watch(&stack, &token, hello()).await.unwrap_err().code(), wanted);
    }
    let daemon = stack.token(Role::Daemon, None);
    let leave = watch_request::Message::Leave(v1::Leave {});
    let (_open, mut responses) = watch(&stack, &daemon, leave).await.unwrap();
    assert_eq!(
        responses.message().await.unwrap_err().code(),
        Code::InvalidArgument
    );
    let nameless = watch_request::Message::Hello(v1::Hello {
        daemon_id: "a b".into(),
        ..self::hello("")
    });
    let (_open, mut responses) = watch(&stack, &daemon, nameless).await.unwrap();
    let error = responses.message().await.unwrap_err();
    assert!(error.message().contains("daemon_id"), "{error}");
}

#[tokio::test]
async fn a_watch_sends_a_snapshot_and_then_only_what_changes() {
    let stack = Stack::start(Options {
        daemons: 0,
        ..Options::default()
    })
    .await;
    let tenant = stack.tenant("watched").await;
    let daemon = stack.token(Role::Daemon, None);
    let first = hello("by-hand");
    let (sender, mut responses) = watch(&stack, &daemon, watch_request::Message::Hello(first.clone()))
        .await
        .unwrap();
    let (mut revision, mut complete, mut epoch) = (0, false, String::new());
    while revision == 0 || !complete {
        let response = responses.message().await.unwrap().unwrap();
        complete |= response.snapshot_complete;
        if let [assignment] = response.assignments.as_slice() {
            assert_eq!(
                (assignment.tenant_id.as_str(), assignment.workers),
                (tenant.to_string().as_str(), 3)
            );
            revision = assignment.revision;
        }
        epoch = response.epoch;
        let ack = v1::Ack {
            nonce: response.nonce,
            errors: vec![],
        };
        sender
            .send(v1::WatchRequest {
                message: Some(watch_request::Message::Ack(ack)),
            })
            .await
            .unwrap();
    }
    // A second process under the same id is refused while the first is there.
    let (_open, mut refused) = watch(&stack, &daemon, watch_request::Message::Hello(hello("by-hand")))
        .await
        .unwrap();
    let error = refused.message().await.unwrap_err();
    assert_eq!(error.code(), Code::AlreadyExists, "{error}");

    // The same process comes back and runs what it was told: nothing is sent again.
    drop((sender, responses));
    let running = vec![v1::RunningLane {
        tenant_id: tenant.to_string(),
        revision,
    }];
    let again = v1::Hello {
        epoch,
        running,
        ..first
    };
    let (sender, mut responses) = watch(&stack, &daemon, watch_request::Message::Hello(again))
        .await
        .unwrap();
    let snapshot = responses.message().await.unwrap().unwrap();
    assert!(snapshot.snapshot_complete, "{snapshot:?}");
    assert_eq!(
        (snapshot.assignments.len(), snapshot.withdrawals.len()),
        (0, 0),
        "{snapshot:?}"
    );

    // An acknowledgement of what was never sent ends the stream.
    let ack = v1::Ack {
        nonce: "never sent".into(),
        errors: vec![],
    };
    sender
        .send(v1::WatchRequest {
            message: Some(watch_request::Message::Ack(ack)),
        })
        .await
        .unwrap();
    let error = responses.message().await.unwrap_err();
    assert!(
        error.code() == Code::InvalidArgument && error.message().contains("nonce"),
        "{error}"
    );
}
