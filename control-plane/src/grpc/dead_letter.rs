//! DeadLetterService.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use common::id::TenantId;
use proto::v1::{self, dead_letter_service_server::DeadLetterService};
use tonic::{Request, Response, Status};

use super::{page_size, scope, timestamp};
use crate::{
    broker::Letter,
    dead_letters::{DeadLetters, Replayed, Selection},
};

/// DeadLetterService on [`DeadLetters`].
#[derive(Clone, Debug)]
pub(crate) struct DeadLetterApi {
    pub(crate) dead_letters: DeadLetters,
}

#[tonic::async_trait]
impl DeadLetterService for DeadLetterApi {
    async fn list_dead_letters(
        &self,
        request: Request<v1::ListDeadLettersRequest>,
    ) -> Result<Response<v1::ListDeadLettersResponse>, Status> {
        let tenant = scope(&request, "tenant_id", &request.get_ref().tenant_id)?;
        let limit = page_size("limit", request.get_ref().limit)?;
        let page = self.dead_letters.list(tenant, limit).await?;
        let dead_letters = page.into_iter().map(|letter| dead_letter(tenant, letter));
        Ok(Response::new(v1::ListDeadLettersResponse {
            dead_letters: dead_letters.collect(),
        }))
    }

    async fn replay_dead_letters(
        &self,
        request: Request<v1::ReplayDeadLettersRequest>,
    ) -> Result<Response<v1::ReplayDeadLettersResponse>, Status> {
        let tenant = scope(&request, "tenant_id", &request.get_ref().tenant_id)?;
        let request = request.get_ref();
        let selection = Selection::new(&request.ids, request.all)?;
        let Replayed { replayed, remaining } = self.dead_letters.replay(tenant, selection).await?;
        Ok(Response::new(v1::ReplayDeadLettersResponse {
            replayed,
            remaining,
        }))
    }

    async fn purge_dead_letters(
        &self,
        request: Request<v1::PurgeDeadLettersRequest>,
    ) -> Result<Response<v1::PurgeDeadLettersResponse>, Status> {
        let tenant = scope(&request, "tenant_id", &request.get_ref().tenant_id)?;
        let purged = self.dead_letters.purge(tenant).await?;
        Ok(Response::new(v1::PurgeDeadLettersResponse { purged }))
    }
}

fn dead_letter(tenant: TenantId, letter: Letter) -> v1::DeadLetter {
    let said = v1::DeadLetter {
        id: letter.id(tenant).map(|id| id.to_string()).unwrap_or_default(),
        reason: letter.reason().unwrap_or_else(|| "unknown".into()),
        detail: letter.detail().unwrap_or_default(),
        attempts: letter.attempts().unwrap_or_default(),
        first_failed_at: letter.first_failed_at().map(timestamp),
        failed_at: letter.failed_at().map(timestamp),
        ..Default::default()
    };
    let (payload, encoding) = match String::from_utf8(letter.body) {
        Ok(text) => (text, None),
        Err(error) => (STANDARD.encode(error.as_bytes()), Some("base64".into())),
    };
    v1::DeadLetter {
        payload,
        encoding,
        ..said
    }
}
