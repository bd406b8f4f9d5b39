//! DeadLetterService.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use common::id::TenantId;
use proto::v1::{self, dead_letter_service_server::DeadLetterService};
use tonic::{Request, Response, Status};

use super::{page_size, scope, timestamp};
use crate::{
    broker::Letter,
    dead_letters::{DeadLetters, PAGE_BYTES_MAX, Replayed, Selection},
    memory::{Account, COPIES},
};

/// What of a body is shown that is cut.
const BEGINNING_BYTES: usize = 4 << 10;

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
        let dead_letters: Vec<_> = page
            .into_iter()
            .map(|letter| dead_letter(tenant, letter))
            .collect();
        let bytes: usize = dead_letters.iter().map(|letter| letter.payload.len()).sum();
        Account::of(&request)?
            .hold(bytes * COPIES)
            .map_err(crate::error::Error::from)?;
        Ok(Response::new(v1::ListDeadLettersResponse { dead_letters }))
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
    let bytes = letter.body.len();
    let said = v1::DeadLetter {
        id: letter.id(tenant).map(|id| id.to_string()).unwrap_or_default(),
        reason: letter.reason().unwrap_or_else(|| "unknown".into()),
        detail: letter.detail().unwrap_or_default(),
        attempts: letter.attempts().unwrap_or_default(),
        first_failed_at: letter.first_failed_at().map(timestamp),
        failed_at: letter.failed_at().map(timestamp),
        bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        truncated: (bytes > PAGE_BYTES_MAX).then_some(true),
        ..Default::default()
    };
    let (payload, encoding) = payload(letter.body);
    v1::DeadLetter {
        payload,
        encoding,
        ..said
    }
}

/// A body as it is shown, and how it is encoded. One that is larger than a page is cut: it exists several times on its
/// way out.
fn payload(mut body: Vec<u8>) -> (String, Option<String>) {
    if body.len() > PAGE_BYTES_MAX {
        let end = match std::str::from_utf8(&body) {
            Ok(text) => text.floor_char_boundary(BEGINNING_BYTES),
            Err(_) => BEGINNING_BYTES,
        };
        body.truncate(end);
        body.shrink_to_fit();
    }
    match String::from_utf8(body) {
        Ok(text) => (text, None),
        Err(error) => (STANDARD.encode(error.as_bytes()), Some("base64".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_is_larger_than_a_page_is_cut_to_its_beginning() {
        let whole = |count: usize| payload(vec![b'x'; count]).0.len();
        assert_eq!(whole(PAGE_BYTES_MAX), PAGE_BYTES_MAX);
        assert_eq!(whole(PAGE_BYTES_MAX + 1), BEGINNING_BYTES);
        // Not within a character.
        let (text, encoding) = payload(format!("x{}", "é".repeat(PAGE_BYTES_MAX)).into_bytes());
        assert_eq!((text.len(), encoding), (BEGINNING_BYTES - 1, None));
        let (text, encoding) = payload(vec![0xff; PAGE_BYTES_MAX + 1]);
        assert_eq!(STANDARD.decode(text).unwrap().len(), BEGINNING_BYTES);
        assert_eq!(encoding.as_deref(), Some("base64"));
    }
}
