//! MessageService.

use futures::{StreamExt as _, stream::BoxStream};
use proto::v1::{self, message_service_server::MessageService};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{page_size, scope, time, timestamp};
use crate::{
    error::Error,
    excerpt::excerpt,
    identity::{Caller, gone},
    memory::Account,
    messages::{Ask, Feed, Filter, Message, NewMessage, Order, PAGE_BYTES_MAX, Publishing, Reading},
    tenants::Tenants,
};

/// MessageService on [`Publishing`] and [`Reading`].
#[derive(Clone, Debug)]
pub(crate) struct MessageApi {
    pub(crate) publishing: Publishing,
    pub(crate) reading: Reading,
    pub(crate) feed: Feed,
    pub(crate) tenants: Tenants,
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
        let ask = ask(request.into_inner())?;
        let page = self.reading.page(tenant, &ask, &account).await?;
        let tenant_id = tenant.to_string();
        let data = page.rows.into_iter().map(|message| stored(&tenant_id, message));
        Ok(Response::new(v1::ListMessagesResponse {
            data: data.collect(),
            next_cursor: page.next,
            at_end: page.at_end,
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
            let problem = format!("must be a message's id, a UUID, got {:?}", excerpt(id));
            Error::invalid("message_id", problem)
        })?;
        let message = self.reading.message(tenant, id, &account).await?;
        Ok(Response::new(v1::GetMessageResponse {
            message: Some(stored(&tenant.to_string(), message)),
        }))
    }

    type StreamMessagesStream = BoxStream<'static, Result<v1::StreamMessagesResponse, Status>>;

    async fn stream_messages(
        &self,
        request: Request<v1::StreamMessagesRequest>,
    ) -> Result<Response<Self::StreamMessagesStream>, Status> {
        let tenant = scope(&request, "tenant_id", &request.get_ref().tenant_id)?;
        let account = Account::of(&request)?;
        let own = Caller::of(&request)?.tenant();
        let &v1::StreamMessagesRequest { cursor, follow, .. } = request.get_ref();
        if cursor < 0 {
            let message = format!("must be the position of a message, or 0, got {cursor}");
            return Err(Error::invalid("cursor", message).into());
        }
        self.tenants.get(tenant).await?;
        let tenant_id = tenant.to_string();
        let messages = self.feed.stream(tenant, cursor, follow, account);
        let messages = messages.map(move |message| match message {
            Ok(message) => Ok(v1::StreamMessagesResponse {
                message: Some(stored(&tenant_id, message)),
            }),
            // Its answer has begun, so that nobody behind this can say so.
            Err(Error::NoTenant(tenant)) if own == Some(tenant) => Err(gone(tenant)),
            Err(error) => Err(error.into()),
        });
        Ok(Response::new(messages.boxed()))
    }
}

/// The page that a caller asks for.
fn ask(request: v1::ListMessagesRequest) -> Result<Ask, Error> {
    let order = match request.order() {
        v1::MessageOrder::Newest => Order::Newest,
        v1::MessageOrder::Oldest => Order::Oldest,
        v1::MessageOrder::Unspecified if request.order == 0 => Order::Oldest,
        v1::MessageOrder::Unspecified => {
            let message = format!("must be oldest or newest, got {}", request.order);
            return Err(Error::invalid("order", message));
        }
    };
    let after = time("created_after", request.created_after)?;
    let before = time("created_before", request.created_before)?;
    Ok(Ask {
        cursor: request.cursor,
        limit: page_size("limit", request.limit)? as i64,
        bytes_max: PAGE_BYTES_MAX,
        order,
        filter: Filter::new(after, before, request.contains)?,
    })
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
