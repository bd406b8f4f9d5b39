//! What REST answers when it cannot answer: the HTTP status that matches, and a `google.rpc.Status` as the body.

use axum::{body::Body, response::Response};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{
    details::{self, complete},
    json, oauth,
};
use crate::{excerpt::excerpt, failure::Reason, memory::Full, request_id::RequestId};

/// What a user is told of a fault of ours; the log has the rest.
const INTERNAL: &str = "internal error; see the server log; the request may be sent again";

/// How the decoder of requests begins what it says, which reaches us as a fault of ours.
const UNDECODABLE: &str = "failed to decode Protobuf message";

/// A call that failed.
#[derive(Debug)]
pub(super) struct Error {
    reason: Reason,
    status: Status,
    allow: Option<String>,
    /// What OAuth calls it, at the token endpoint.
    oauth: Option<&'static str>,
}

impl Error {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            status: reason.status(message),
            allow: None,
            oauth: None,
        }
    }

    /// The same with its name in OAuth, if it has none yet.
    pub(super) fn in_oauth(mut self, error: &'static str) -> Self {
        self.oauth.get_or_insert(error);
        self
    }

    /// What the caller sent cannot be read.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Reason::InvalidRequest, message)
    }

    /// The path does not exist.
    pub(super) fn no_path(path: &str) -> Self {
        let message = format!(
            "there is nothing at {}; see /docs for what there is",
            excerpt(path)
        );
        Self::new(Reason::PathNotFound, message)
    }

    /// The path exists and takes other verbs.
    pub(super) fn no_verb(verb: &http::Method, allow: String) -> Self {
        let message = format!(
            "{} is not possible here; allowed: {allow}",
            excerpt(verb.as_str())
        );
        let mut error = Self::new(Reason::MethodNotAllowed, message);
        error.allow = Some(allow);
        error
    }

    /// The body is of a type that is not read.
    pub(super) fn media_type(sent: &str) -> Self {
        let message = format!("the body is {}; send application/json", excerpt(sent));
        Self::new(Reason::UnsupportedMediaType, message)
    }

    /// The body is encoded, and would have to be decoded first.
    pub(super) fn encoding(sent: &str) -> Self {
        let message = format!(
            "the body is encoded ({}); send it as it is, without content-encoding",
            excerpt(sent)
        );
        Self::new(Reason::UnsupportedEncoding, message)
    }

    /// The body is larger than what is taken.
    pub(super) fn too_large(bytes_max: usize) -> Self {
        let message = format!("the body is larger than {bytes_max} bytes; send less at once");
        Self::new(Reason::RequestTooLarge, message)
    }

    /// The body does not come.
    pub(super) fn slow() -> Self {
        let message = "the body did not come in time; send the request again";
        Self::new(Reason::RequestTimeout, message)
    }

    /// There is no room for the request.
    pub(super) fn full(full: Full) -> Self {
        Self::new(full.reason(), full.to_string())
    }

    /// The call took too long.
    pub(super) fn late(seconds: u64) -> Self {
        let message =
            format!("no answer within {seconds} seconds; look what came of the request, or send it again");
        Self::new(Reason::DeadlineExceeded, message)
    }

    /// What a call of `method` failed with. A fault of ours is logged here and told to nobody.
    pub(super) fn of(status: Status, method: &str) -> Self {
        let reason = Reason::of(&status);
        if reason == Reason::Internal {
            log(&status, method);
            return Self::new(reason, INTERNAL);
        }
        Self {
            reason,
            status,
            allow: None,
            oauth: None,
        }
    }

    /// The status in HTTP.
    pub(super) fn http(&self) -> StatusCode {
        self.reason.http()
    }

    /// The code in gRPC.
    pub(super) fn code(&self) -> Code {
        self.status.code()
    }

    /// What OAuth calls it.
    #[cfg(test)]
    pub(super) fn oauth(&self) -> Option<&'static str> {
        self.oauth
    }

    /// What the user is told.
    pub(super) fn message(&self) -> &str {
        self.status.message()
    }

    /// The answer to the request.
    pub(super) fn into_response(self, request: &RequestId) -> Response {
        let Self {
            reason,
            status,
            allow,
            oauth,
        } = self;
        let status = complete(&status, request);
        let details = status.get_error_details();
        let oauth = oauth.map(|error| oauth::members(error, status.message()));
        let body = json_of(&status, &details, &oauth.unwrap_or_default());
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = reason.http();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if status.code() == Code::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = details::retry_after_seconds(&details) {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Some(allow) = allow.and_then(|allow| allow.try_into().ok()) {
            headers.insert(ALLOW, allow);
        }
        response
    }
}

impl Error {
    /// The body that it has, where an answer has begun and its status is said.
    pub(super) fn into_json(self, request: &RequestId) -> String {
        let status = complete(&self.status, request);
        json_of(&status, &status.get_error_details(), "")
    }
}

/// By hand, so that the members stand in the order of the proto. `more` are others.
fn json_of(status: &Status, details: &ErrorDetails, more: &str) -> String {
    let message = serde_json::Value::from(status.message());
    let code = i32::from(status.code());
    let listed = details::json(details);
    format!(r#"{{"code":{code},"message":{message},"details":{listed}{more}}}"#)
}

impl From<json::Error> for Error {
    fn from(error: json::Error) -> Self {
        let message = error.to_string();
        match error.blame() {
            Some((field, problem)) => Self {
                reason: Reason::InvalidField,
                status: Reason::InvalidField
                    .failure(message)
                    .blames(field, problem)
                    .into(),
                allow: None,
                oauth: None,
            },
            None => Self::invalid(message),
        }
    }
}

/// Does for a gRPC answer's headers or trailers what [`Error`] does for REST: says the reason and the request, logs a
/// fault of ours, and takes what it says out.
pub(super) fn amend(headers: &mut HeaderMap, method: &str, request: &RequestId) {
    let Some(code) = code_in(headers).filter(|code| *code != Code::Ok) else {
        return;
    };
    let status = Status::from_header_map(headers).unwrap_or_else(|| Status::new(code, ""));
    let status = if Reason::of(&status) != Reason::Internal {
        status
    } else if status.message().starts_with(UNDECODABLE) {
        Reason::InvalidRequest.status(status.message())
    } else {
        log(&status, method);
        Reason::Internal.status(INTERNAL)
    };
    // It fails for text that is no header's: the message is escaped in it, and the details are base64.
    let _ = complete(&status, request).add_header(headers);
}

/// The code that a gRPC answer's headers or trailers have, if they have one.
pub(super) fn code_in(headers: &HeaderMap) -> Option<Code> {
    let code = headers.get(Status::GRPC_STATUS)?;
    Some(Code::from_bytes(code.as_bytes()))
}

fn log(status: &Status, method: &str) {
    tracing::error!(method, code = ?status.code(), error = status.message(), "a call failed");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Extensions;

    use super::*;

    fn amended(status: &Status) -> Status {
        let mut headers = HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        amend(&mut headers, "m", &RequestId::of(&Extensions::new()));
        Status::from_header_map(&headers).unwrap()
    }

    #[test]
    fn a_fault_of_ours_is_not_told() {
        for status in [
            Status::internal("password=x"),
            Status::unknown("password=x"),
            Reason::Internal.failure("x").about("password", "x").into(),
        ] {
            let told = amended(&status);
            assert_eq!((told.code(), told.message()), (Code::Internal, INTERNAL));
            assert!(!String::from_utf8_lossy(told.details()).contains("password"));
            let error = Error::of(status, "m");
            assert_eq!(
                (error.reason, error.status.message()),
                (Reason::Internal, INTERNAL)
            );
        }
    }

    #[test]
    fn a_message_that_cannot_be_decoded_is_the_callers_fault() {
        let undecodable = <() as prost::Message>::decode(&[0xff][..]).unwrap_err();
        let status = amended(&Status::internal(undecodable.to_string()));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), undecodable.to_string());
    }

    #[test]
    fn what_the_caller_can_mend_is_told() {
        let told = amended(&Status::not_found("tenant 1 does not exist"));
        assert_eq!(told.message(), "tenant 1 does not exist");
        assert_eq!(Reason::of(&told), Reason::NotFound);
        assert!(told.get_details_request_info().is_some());
    }

    #[test]
    fn some_errors_say_what_to_do_in_a_header() {
        let header = |status: Status, name| {
            Error::of(status, "m")
                .into_response(&RequestId::of(&Extensions::new()))
                .headers()
                .get(name)
                .cloned()
        };
        assert_eq!(
            header(Status::unauthenticated(""), WWW_AUTHENTICATE).unwrap(),
            "Bearer"
        );
        assert_eq!(header(Status::unavailable(""), RETRY_AFTER).unwrap(), "1");
        assert_eq!(header(Status::not_found(""), RETRY_AFTER), None);
        let too_fast = Reason::RateLimited.failure("");
        let too_fast = too_fast.again_after(Duration::from_millis(16_001));
        assert_eq!(header(too_fast.into(), RETRY_AFTER).unwrap(), "17");
    }
}
