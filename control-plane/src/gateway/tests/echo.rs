//! Handlers that answer from nothing.

use common::id::TenantId;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use proto::v1::{self, message_service_server, tenant_service_server};
use tonic::{Response, Status};

use super::TENANT;
use crate::{audit::Target, identity::Caller};

type Answer<T> = Result<Response<T>, Status>;

/// So many workers are never set.
pub(super) const NEVER: i32 = 666;

/// Handlers that say what reached them.
pub(super) struct Echo;

#[tonic::async_trait]
impl tenant_service_server::TenantService for Echo {
    async fn create_tenant(
        &self,
        request: tonic::Request<v1::CreateTenantRequest>,
    ) -> Answer<v1::CreateTenantResponse> {
        Caller::of(&request)?;
        Target::of(&request).is(TenantId(TENANT));
        let request = request.into_inner();
        let tenant = v1::Tenant {
            id: TENANT.to_string(),
            name: request.name,
            status: request.status,
            ..Default::default()
        };
        Ok(Response::new(v1::CreateTenantResponse { tenant: Some(tenant) }))
    }

    async fn list_tenants(
        &self,
        _: tonic::Request<v1::ListTenantsRequest>,
    ) -> Answer<v1::ListTenantsResponse> {
        Err(Status::unavailable("the database is away"))
    }

    async fn get_tenant(
        &self,
        request: tonic::Request<v1::GetTenantRequest>,
    ) -> Answer<v1::GetTenantResponse> {
        let id = Caller::of(&request)?.scope("id", &request.get_ref().id)?;
        Err(Status::not_found(format!("tenant {id} does not exist")))
    }

    async fn update_tenant(
        &self,
        _: tonic::Request<v1::UpdateTenantRequest>,
    ) -> Answer<v1::UpdateTenantResponse> {
        Err(Status::internal("password=hunter2"))
    }

    async fn delete_tenant(
        &self,
        _: tonic::Request<v1::DeleteTenantRequest>,
    ) -> Answer<v1::DeleteTenantResponse> {
        Ok(Response::new(v1::DeleteTenantResponse {}))
    }

    async fn set_concurrency(
        &self,
        request: tonic::Request<v1::SetConcurrencyRequest>,
    ) -> Answer<v1::SetConcurrencyResponse> {
        let v1::SetConcurrencyRequest { tenant_id, workers } = request.into_inner();
        if workers == NEVER {
            return std::future::pending().await;
        }
        Ok(Response::new(v1::SetConcurrencyResponse {
            tenant_id,
            workers: workers.unsigned_abs(),
            applied: true,
        }))
    }

    async fn set_limits(
        &self,
        request: tonic::Request<v1::SetLimitsRequest>,
    ) -> Answer<v1::SetLimitsResponse> {
        let request = request.into_inner();
        Ok(Response::new(v1::SetLimitsResponse {
            limits: Some(v1::TenantLimits {
                publish_per_second: request.publish_per_second,
                store_per_second: request.store_per_second,
                backlog_messages: request.backlog_messages,
                backlog_bytes: request.backlog_bytes,
            }),
        }))
    }

    async fn set_retention(
        &self,
        request: tonic::Request<v1::SetRetentionRequest>,
    ) -> Answer<v1::SetRetentionResponse> {
        let request = request.into_inner();
        Ok(Response::new(v1::SetRetentionResponse {
            retention: Some(v1::TenantRetention {
                max_age_seconds: request.max_age_seconds,
                max_messages: request.max_messages,
            }),
        }))
    }
}

#[tonic::async_trait]
impl message_service_server::MessageService for Echo {
    async fn publish_messages(
        &self,
        request: tonic::Request<v1::PublishMessagesRequest>,
    ) -> Answer<v1::PublishMessagesResponse> {
        let texts = request.into_inner().messages.into_iter();
        let ids = texts
            .filter_map(|message| message.payload)
            .map(|payload| payload.text);
        Ok(Response::new(v1::PublishMessagesResponse { ids: ids.collect() }))
    }

    async fn list_messages(
        &self,
        request: tonic::Request<v1::ListMessagesRequest>,
    ) -> Answer<v1::ListMessagesResponse> {
        let id = Caller::of(&request)?.scope("tenant_id", &request.get_ref().tenant_id)?;
        let message = v1::Message {
            tenant_id: id.to_string(),
            payload: Some(v1::Json {
                text: "1.10".to_owned(),
            }),
            ..Default::default()
        };
        Ok(Response::new(v1::ListMessagesResponse {
            data: vec![message],
            next_cursor: request.get_ref().cursor,
            at_end: true,
        }))
    }

    async fn get_message(
        &self,
        request: tonic::Request<v1::GetMessageRequest>,
    ) -> Answer<v1::GetMessageResponse> {
        let tenant = Caller::of(&request)?.scope("tenant_id", &request.get_ref().tenant_id)?;
        let message = v1::Message {
            id: request.get_ref().message_id.clone(),
            tenant_id: tenant.to_string(),
            ..Default::default()
        };
        Ok(Response::new(v1::GetMessageResponse {
            message: Some(message),
        }))
    }

    type StreamMessagesStream = BoxStream<'static, Result<v1::StreamMessagesResponse, Status>>;

    /// Two behind the cursor, and then nothing more or, to who does not follow, that something is wrong.
    async fn stream_messages(
        &self,
        request: tonic::Request<v1::StreamMessagesRequest>,
    ) -> Answer<Self::StreamMessagesStream> {
        let tenant = Caller::of(&request)?.scope("tenant_id", &request.get_ref().tenant_id)?;
        let &v1::StreamMessagesRequest { cursor, follow, .. } = request.get_ref();
        let message = move |position| {
            Ok(v1::StreamMessagesResponse {
                message: Some(v1::Message {
                    tenant_id: tenant.to_string(),
                    position,
                    ..Default::default()
                }),
            })
        };
        let messages = stream::iter([cursor + 1, cursor + 2]).map(message);
        Ok(Response::new(match follow {
            true => messages.chain(stream::pending()).boxed(),
            false => {
                let error = stream::iter([Err(Status::unavailable("the database is away"))]);
                messages.chain(error).boxed()
            }
        }))
    }
}
