//! MessageService.

use proto::v1::{self, message_service_server::MessageService};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{page_size, scope, timestamp};
use crate::{
    error::Error,
    excerpt::excerpt,
    memory::Account,
    messages::{Message, NewMessage, Publishing, Reading},
};

/// MessageService on [`Publishing`] and [`Reading`].
#[derive(Clone, Debug)]
pub(crate) struct MessageApi {
    pub(crate) publishing: Publishing,
    pub(crate) reading: Reading,
}

#[tonic::async_trait]
impl MessageService for MessageApi {
    async fn publish_messages(
        &self,
        request: Request<v1::PublishMessagesRequest>,
    ) -> Result<Response<v1::PublishMessagesResponse>, Status> {
        let tenant = scope(&request, "tenant_id", &request.get_ref().tenant_id)?;
        let message = |message: v1::NewMessage| NewMessage {
            id: message.id,
            payload: message.payload.map(|payload| payload.text),
        };
        let messages = request.into_inner().messages.into_iter().map(message).collect();
        let ids = self.publishing.publish(tenant, messages).await?;
        Ok(Response::new(v1::PublishMessagesResponse {
            ids: ids.iter().map(ToString::to_string).collect(),
        }))
    }

    async fn list_messages(
        &self,
        request: Request<v1::ListMessagesRequest>,
    ) -> Result<Response<v1::ListMessagesResponse>, Status> {
        let tenant = scope(&request, "tenant_id", &request.get_ref().tenant_id)?;
        let account = Account::of(&request)?;
        let request = request.get_ref();
        let limit = page_size("limit", request.limit)?;
        let page = self.reading.page(tenant, request.cursor, limit as i64, &account);
        let page = page.await?;
        let next_cursor = page.last().map_or(request.cursor, |last| last.position);
        let tenant_id = tenant.to_string();
        let data = page.into_iter().map(|message| stored(&tenant_id, message));
        Ok(Response::new(v1::ListMessagesResponse {
            data: data.collect(),
            next_cursor,
        }))
    }

    async fn get_message(
        &self,
        request: Request<v1::GetMessageRequest>,
    ) -> Result<Response<v1::GetMessageResponse>, Status> {
        let tenant = scope(&request, "tenant_id", &request.get_ref().tenant_id)?;
        let account = Account::of(&request)?;
        let id = &request.get_ref().message_id;
        let id = Uuid::try_parse(id).map_err(|_| {
            let problem = format!("is to be a message's id, a UUID, not {:?}", excerpt(id));
            Error::invalid("message_id", problem)
        })?;
        let message = self.reading.message(tenant, id, &account).await?;
        Ok(Response::new(v1::GetMessageResponse {
            message: Some(stored(&tenant.to_string(), message)),
        }))
    }
}

fn stored(tenant_id: &str, message: Message) -> v1::Message {
    v1::Message {
        id: message.id.to_string(),
        tenant_id: tenant_id.to_owned(),
        position: message.position,
        payload: Some(v1::Json {
            text: message.payload,
        }),
        created_at: Some(timestamp(message.created_at)),
    }
}
