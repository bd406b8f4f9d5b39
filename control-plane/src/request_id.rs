//! A name for every request, by which its caller, the log and the audit trail mean the same one.
//!
//! tower-http has layers that make and return one, but they take any that is sent; what is left of them once that is
//! checked is less than the check.

use axum::{extract::Request, middleware::Next, response::Response};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use tracing::{Instrument as _, Span, error_span, field::Empty};
use uuid::Uuid;

/// The header that carries it, both ways.
const NAME: HeaderName = HeaderName::from_static("x-request-id");
/// The longest that a caller may choose.
const LENGTH_MAX: usize = 128;

/// A request's id: the caller's own if that can stand anywhere without harm, else one of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    /// A new one.
    fn new() -> Self {
        let id = Uuid::now_v7().to_string();
        // A UUID is ASCII.
        Self(HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("unknown")))
    }

    fn given(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(NAME)?;
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let is_sane = (1..=LENGTH_MAX).contains(&value.len()) && value.as_bytes().iter().all(allowed);
        is_sane.then(|| Self(value.clone()))
    }

    /// The id of the request that these are from.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or_else(Self::new)
    }

    /// As text.
    pub(crate) fn as_str(&self) -> &str {
        // It is ASCII.
        self.0.to_str().unwrap_or_default()
    }
}

/// Names a request, whatever becomes of it: in its answer, and in every line that is logged while it is answered.
pub(crate) async fn assign(mut request: Request, next: Next) -> Response {
    let id = RequestId::given(request.headers()).unwrap_or_else(RequestId::new);
    // Of the highest level, so that it is there wherever a line is.
    let span = error_span!("request", request_id = id.as_str(), method = Empty, sub = Empty);
    request.extensions_mut().insert(id.clone());
    let mut response = next.run(request).instrument(span).await;
    response.headers_mut().insert(NAME, id.0);
    response
}

/// The method that the request under way calls is known.
pub(crate) fn calls(method: &str) {
    Span::current().record("method", method);
}

/// Who sent it is known.
pub(crate) fn is_from(subject: &str) {
    Span::current().record("sub", subject);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(value: &[u8]) -> Option<String> {
        let value = HeaderValue::from_bytes(value).unwrap();
        let id = RequestId::given(&HeaderMap::from_iter([(NAME, value)]))?;
        Some(id.as_str().to_owned())
    }

    #[test]
    fn a_callers_own_is_kept_if_it_can_stand_anywhere() {
        let longest = "x".repeat(LENGTH_MAX);
        for id in ["a", "0198c0de-0000-7000-8000-000000000001", "A.b_c-9", &longest] {
            assert_eq!(given(id.as_bytes()).as_deref(), Some(id));
        }
        let too_long = "x".repeat(LENGTH_MAX + 1);
        for id in ["", " ", "a b", "a\tb", "a\"b", "a/b", "a=b", "{}", &too_long] {
            assert_eq!(given(id.as_bytes()), None, "{id:?}");
        }
        assert_eq!(given("é".as_bytes()), None);
    }

    #[test]
    fn one_of_ours_is_new_each_time() {
        let (one, two) = (RequestId::new(), RequestId::new());
        assert_ne!(one, two);
        assert!(Uuid::try_parse(one.as_str()).is_ok());
    }
}
