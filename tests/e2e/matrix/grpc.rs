//! The methods, from their descriptors.

use std::sync::LazyLock;

use bytes::Bytes;
use futures::stream;
use http::uri::PathAndQuery;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MethodDescriptor, Value};
use tests::Raw;
use tonic::{Code, Request, Status, client::Grpc, transport::Channel};

use super::{Answer, Cell, Method, judge};
use crate::support::Stack;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| DescriptorPool::decode(proto::DESCRIPTORS).unwrap());

fn methods() -> impl Iterator<Item = MethodDescriptor> {
    let services: Vec<_> = POOL.services().collect();
    services
        .into_iter()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
}

fn path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

/// The path of the method with this name, of whichever service.
pub(super) fn path_of(name: &str) -> String {
    let found = methods().find(|method| method.name() == name);
    path(&found.unwrap_or_else(|| panic!("there is no method {name}")))
}

/// The field of a request that says which tenant it is about.
fn tenant_field(method: &MethodDescriptor) -> Option<&'static str> {
    let is_of_tenants = method.parent_service().name() == "TenantService" && method.name() != "CreateTenant";
    let has = |name: &str| method.input().get_field_by_name(name).is_some();
    match () {
        () if has("tenant_id") => Some("tenant_id"),
        () if is_of_tenants && has("id") => Some("id"),
        () => None,
    }
}

/// What is wrong with the answers that this caller gets of any method.
pub(super) async fn try_all(stack: &Stack, cell: &Cell<'_>) -> Vec<String> {
    let channel = Channel::from_shared(stack.url())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut wrong = Vec::new();
    for descriptor in methods() {
        let field = tenant_field(&descriptor);
        let method = Method {
            path: path(&descriptor),
            is_of_a_tenant: field.is_some(),
        };
        if method.is_left_out(cell.caller, cell.target) {
            continue;
        }
        let mut message = DynamicMessage::new(descriptor.input());
        if let Some(field) = field {
            assert_eq!(
                descriptor.input().get_field_by_name(field).unwrap().kind(),
                Kind::String
            );
            message.set_field_by_name(field, Value::String(cell.target.id().to_string()));
        }
        let called = call(
            &channel,
            &method.path,
            &cell.caller.token,
            message.encode_to_vec(),
        )
        .await;
        let (is, body) = match &called {
            Ok(body) => (Answer::Reached, body.to_vec()),
            Err(status) => (
                match status.code() {
                    Code::Unauthenticated => Answer::Unauthenticated,
                    Code::PermissionDenied => Answer::Denied,
                    // Only the tenant is filled in, and what else is missing may be seen before the tenant is.
                    Code::InvalidArgument if cell.caller.is_gone => continue,
                    Code::Internal | Code::Unknown => {
                        wrong.push(format!("{} by {}: {status}", method.path, cell.caller.what));
                        continue;
                    }
                    _ => Answer::Reached,
                },
                status.message().as_bytes().to_vec(),
            ),
        };
        wrong.extend(judge(&method.path, &method, cell, is, &body));
    }
    wrong
}

/// Sends one message and answers the first that comes back. A stream that brings nothing is one that was reached.
async fn call(channel: &Channel, path: &str, token: &str, message: Vec<u8>) -> Result<Bytes, Status> {
    let mut client = Grpc::new(channel.clone());
    client
        .ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let mut request = Request::new(stream::iter([message]));
    if !token.is_empty() {
        let bearer = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
    }
    let path: PathAndQuery = path.parse().unwrap();
    let response = client.streaming(request, path, Raw).await?;
    Ok(response.into_inner().message().await?.unwrap_or_default())
}
