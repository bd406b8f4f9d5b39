//! DeadLetterService.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proto::v1::{self, dead_letter_service_server::DeadLetterService};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{page_size, scope, timestamp};
use crate::{
    broker::Told,
    dead_letters::{DeadLetters, PerSecond, Selection, Taken, Token, reason},
    error::Error,
    excerpt::excerpt,
    memory::{Account, COPIES},
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
        let asked = request.get_ref();
        let limit = page_size("limit", asked.limit)?;
        let reason = reason(&asked.reason)?;
        let begin = Token::read(&asked.page_token, tenant, reason)?;
        let (page, next) = self.dead_letters.list(tenant, reason, begin, limit).await?;
        let bytes: usize = page.iter().map(Told::size).sum();
        Account::of(&request)?.hold(bytes * COPIES).map_err(Error::from)?;
        Ok(Response::new(v1::ListDeadLettersResponse {
            dead_letters: page.into_iter().map(dead_letter).collect(),
            next_page_token: next.map(|token| token.to_string()),
        }))
    }

    async fn get_dead_letter(
        &self,
        request: Request<v1::GetDeadLetterRequest>,
    ) -> Result<Response<v1::GetDeadLetterResponse>, Status> {
        let tenant = scope(&request, "tenant_id", &request.get_ref().tenant_id)?;
        let id = letter_id(&request.get_ref().letter_id)?;
        let letter = self.dead_letters.get(tenant, id).await?;
        let account = Account::of(&request)?;
        let bytes = letter.size().saturating_mul(COPIES);
        if !account.could_hold(bytes) {
            return Err(Error::Precondition(format!(
                "dead letter {id} has {} bytes, more than a request may hold (limits.memory_bytes): take it from {} by AMQP, \
                 or have the limit raised",
                letter.bytes,
                tenant.dead_letter_queue()
            ))
            .into());
        }
        account.hold(bytes).map_err(Error::from)?;
        Ok(Response::new(v1::GetDeadLetterResponse {
            dead_letter: Some(dead_letter(letter)),
        }))
    }

    async fn replay_dead_letters(
        &self,
        request: Request<v1::ReplayDeadLettersRequest>,
    ) -> Result<Response<v1::ReplayDeadLettersResponse>, Status> {
        let tenant = scope(&request, "tenant_id", &request.get_ref().tenant_id)?;
        let request = request.get_ref();
        let selection = Selection::new(&request.ids, request.all, reason(&request.reason)?)?;
        let per_second = PerSecond::new(request.per_second)?;
        let Taken { taken, remaining } = self.dead_letters.replay(tenant, selection, per_second).await?;
        Ok(Response::new(v1::ReplayDeadLettersResponse {
            replayed: taken,
            remaining,
        }))
    }

    async fn purge_dead_letters(
        &self,
        request: Request<v1::PurgeDeadLettersRequest>,
    ) -> Result<Response<v1::PurgeDeadLettersResponse>, Status> {
        let tenant = scope(&request, "tenant_id", &request.get_ref().tenant_id)?;
        let reason = reason(&request.get_ref().reason)?;
        let Taken { taken, remaining } = self.dead_letters.purge(tenant, reason).await?;
        Ok(Response::new(v1::PurgeDeadLettersResponse {
            purged: taken,
            remaining: (remaining > 0).then_some(remaining),
        }))
    }

    async fn delete_dead_letter(
        &self,
        request: Request<v1::DeleteDeadLetterRequest>,
    ) -> Result<Response<v1::DeleteDeadLetterResponse>, Status> {
        let tenant = scope(&request, "tenant_id", &request.get_ref().tenant_id)?;
        let id = letter_id(&request.get_ref().letter_id)?;
        let Taken { taken, .. } = self.dead_letters.delete(tenant, id).await?;
        Ok(Response::new(v1::DeleteDeadLetterResponse { purged: taken }))
    }
}

fn letter_id(text: &str) -> Result<Uuid, Error> {
    Uuid::try_parse(text)
        .map_err(|_| Error::invalid("letter_id", format!("{:?} is not a UUID", excerpt(text))))
}

fn dead_letter(letter: Told) -> v1::DeadLetter {
    let truncated = (letter.body.len() < letter.bytes).then_some(true);
    let (payload, encoding) = match String::from_utf8(letter.body) {
        Ok(text) => (text, None),
        Err(error) => (STANDARD.encode(error.as_bytes()), Some("base64".into())),
    };
    v1::DeadLetter {
        id: letter.id.map(|id| id.to_string()).unwrap_or_default(),
        reason: letter.reason.as_str().into(),
        detail: letter.detail,
        attempts: letter.attempts.unwrap_or_default(),
        first_failed_at: letter.first_failed_at.map(timestamp),
        failed_at: letter.failed_at.map(timestamp),
        payload,
        encoding,
        bytes: u32::try_from(letter.bytes).unwrap_or(u32::MAX),
        truncated,
        headers: letter.headers.map(|text| v1::Json { text }),
    }
}
