//! What is told of a dead letter.

use common::{broker::Held, id::TenantId, reason::Reason};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Letter, table};

/// What of a detail is told; Jalur's own are no longer.
const DETAIL_BYTES_MAX: usize = 1_000;

/// A dead letter as it is told.
#[derive(Debug)]
pub(crate) struct Told {
    /// The message's id.
    pub(crate) id: Option<Uuid>,
    /// Why it failed, in a word.
    pub(crate) reason: Reason,
    /// Why it failed, for a person.
    pub(crate) detail: String,
    /// How often it was tried.
    pub(crate) attempts: Option<u32>,
    /// When it failed first.
    pub(crate) first_failed_at: Option<OffsetDateTime>,
    /// When it failed for good.
    pub(crate) failed_at: Option<OffsetDateTime>,
    /// The body, or its beginning.
    pub(crate) body: Vec<u8>,
    /// How large the whole body is.
    pub(crate) bytes: usize,
    /// The headers, as a JSON object; none where only the beginning is told.
    pub(crate) headers: Option<String>,
    /// The room that all of it takes among what calls have in their hands; a beginning takes none.
    _held: Held,
}

impl Told {
    /// All of it.
    pub(crate) fn whole(mut letter: Letter, tenant: TenantId) -> Self {
        let headers = table::json(&letter.headers());
        Self {
            headers: Some(headers),
            _held: std::mem::take(&mut letter.held),
            ..Self::beginning(letter, tenant, usize::MAX)
        }
    }

    /// What a list shows: of the body no more than `bytes_max`, and no half of a character.
    pub(crate) fn beginning(mut letter: Letter, tenant: TenantId, bytes_max: usize) -> Self {
        let mut detail = letter.detail().unwrap_or_default();
        detail.truncate(detail.floor_char_boundary(DETAIL_BYTES_MAX));
        let mut body = std::mem::take(&mut letter.body);
        let bytes = body.len();
        if bytes > bytes_max {
            let end = match std::str::from_utf8(&body) {
                Ok(text) => text.floor_char_boundary(bytes_max),
                Err(_) => bytes_max,
            };
            body.truncate(end);
            body.shrink_to_fit();
        }
        Self {
            id: letter.id(tenant),
            reason: letter.reason(),
            detail,
            attempts: letter.attempts(),
            first_failed_at: letter.first_failed_at(),
            failed_at: letter.failed_at(),
            body,
            bytes,
            headers: None,
            _held: Held::default(),
        }
    }

    /// What it takes.
    pub(crate) fn size(&self) -> usize {
        self.body.len() + self.detail.len() + self.headers.as_ref().map_or(0, String::len)
    }
}

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;

    use super::{super::Tag, *};

    fn told(body: Vec<u8>, bytes_max: usize) -> Told {
        let letter = Letter::new(Tag::any(), body, BasicProperties::default(), Held::default());
        Told::beginning(letter, TenantId(Uuid::from_u128(1)), bytes_max)
    }

    #[test]
    fn a_large_body_is_cut_to_its_beginning_and_not_within_a_character() {
        assert_eq!(told(vec![b'x'; 10], 10).body.len(), 10);
        let cut = told(vec![b'x'; 11], 10);
        assert_eq!((cut.body.len(), cut.bytes), (10, 11));
        let text = format!("x{}", "é".repeat(10)).into_bytes();
        assert_eq!(told(text, 10).body, "xéééé".as_bytes());
        assert_eq!(told(vec![0xff; 11], 10).body, [0xff; 10]);
    }
}
