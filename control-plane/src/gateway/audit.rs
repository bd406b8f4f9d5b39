//! What the gateway tells the audit trail: of both faces the same.

use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use http::Extensions;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use tonic::Status;

use super::{front::Shared, summary};
use crate::{
    audit::{Recording, rules::Rule},
    identity::Caller,
    request_id::{self, RequestId},
};

/// The recording of a request that calls a method.
pub(super) fn record(shared: &Shared, method: &'static str, request: &Extensions) -> Recording {
    let id = RequestId::of(request);
    shared.audit.record(method, id, address(request))
}

fn address(request: &Extensions) -> Option<IpAddr> {
    let ConnectInfo(peer) = request.get::<ConnectInfo<SocketAddr>>()?;
    Some(peer.ip().to_canonical())
}

/// Who sent it is known: to the trail, and to the lines that are logged of it.
pub(super) fn is_from(recording: &mut Recording, caller: &Caller) {
    request_id::is_from(caller.subject());
    recording.is_from(caller);
}

/// The tenant that a path names, before anything else is known.
pub(super) fn is_about<'a>(
    recording: &mut Recording,
    mut variables: impl Iterator<Item = (&'a str, &'a str)>,
) {
    if let Rule::Denied { tenant } | Rule::All { tenant, .. } = recording.rule()
        && let Some((_, id)) = variables.find(|(name, _)| *name == tenant)
    {
        recording.is_about(id);
    }
}

/// The request is about to be handled. An error is its answer.
pub(super) async fn begins(recording: &mut Recording, message: &DynamicMessage) -> Result<(), Status> {
    let Rule::All { tenant, fields } = recording.rule() else {
        return Ok(());
    };
    let mut summary = summary::of(message, fields);
    if let Some(id) = message.get_field_by_name(tenant)
        && let Some(id) = id.as_str()
        && !recording.is_about(id)
        && !id.is_empty()
    {
        // It names no tenant: what it says instead is told.
        summary = format!("{} {summary}", summary::of(message, &[tenant]));
    }
    recording.begins(summary).await
}

/// The same of one that is still encoded, as gRPC has it.
pub(super) async fn begins_encoded(
    recording: &mut Recording,
    descriptor: &MessageDescriptor,
    message: &[u8],
) -> Result<(), Status> {
    match recording.rule() {
        Rule::Nothing => Ok(()),
        Rule::Denied { tenant } => {
            recording.is_about(summary::text_of(descriptor, tenant, message).unwrap_or_default());
            Ok(())
        }
        Rule::All { .. } => {
            // One that cannot be decoded is refused by its handler. Nothing is told of it.
            let decoded = DynamicMessage::decode(descriptor.clone(), message);
            begins(
                recording,
                &decoded.unwrap_or_else(|_| DynamicMessage::new(descriptor.clone())),
            )
            .await
        }
    }
}
