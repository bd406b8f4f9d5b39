//! What REST answers when it cannot answer: the HTTP status that matches, and a `google.rpc.Status` as the body.

use axum::{body::Body, response::Response};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use tonic::{Code, Status};

use super::json;
use crate::{error::TOO_LARGE, excerpt::excerpt, memory::Full};

/// What a user is told of a fault of ours; the log has the rest.
const INTERNAL: &str = "something failed here, and the log says what; the request may be sent again";

/// How the decoder of requests begins what it says, which reaches us as a fault of ours.
const UNDECODABLE: &str = "failed to decode Protobuf message";

/// A call that failed.
#[derive(Debug)]
pub(super) struct Error {
    http: StatusCode,
    code: Code,
    message: String,
    allow: Option<String>,
}

impl Error {
    fn new(http: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Self {
            http,
            code,
            message: message.into(),
            allow: None,
        }
    }

    /// What the caller sent is not possible.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::InvalidArgument, message)
    }

    /// The path does not exist.
    pub(super) fn no_path(path: &str) -> Self {
        let message = format!(
            "there is nothing at {}; see /docs for what there is",
            excerpt(path)
        );
        Self::new(StatusCode::NOT_FOUND, Code::NotFound, message)
    }

    /// The path exists and takes other verbs.
    pub(super) fn no_verb(verb: &http::Method, allow: String) -> Self {
        let message = format!(
            "{} is not possible here; allowed: {allow}",
            excerpt(verb.as_str())
        );
        let mut error = Self::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented, message);
        error.allow = Some(allow);
        error
    }

    /// The body is of a type that is not read.
    pub(super) fn media_type(sent: &str) -> Self {
        let message = format!("the body is {}; send application/json", excerpt(sent));
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, message)
    }

    /// The body is encoded, and would have to be decoded first.
    pub(super) fn encoding(sent: &str) -> Self {
        let message = format!(
            "the body is encoded ({}); send it as it is, without content-encoding",
            excerpt(sent)
        );
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, message)
    }

    /// The body is larger than what is taken.
    pub(super) fn too_large(bytes_max: usize) -> Self {
        let message = format!("the body is larger than {bytes_max} bytes; send less at once");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted, message)
    }

    /// The body does not come.
    pub(super) fn slow() -> Self {
        let message = "the body did not come in time; send the request again";
        Self::new(StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded, message)
    }

    /// There is no room for the request.
    pub(super) fn full(full: Full) -> Self {
        let (http, code) = match full {
            Full::Tenant => (StatusCode::TOO_MANY_REQUESTS, Code::ResourceExhausted),
            Full::All => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable),
        };
        Self::new(http, code, full.to_string())
    }

    /// The call took too long.
    pub(super) fn late(seconds: u64) -> Self {
        let message =
            format!("no answer within {seconds} seconds; look what came of the request, or send it again");
        Self::new(StatusCode::GATEWAY_TIMEOUT, Code::DeadlineExceeded, message)
    }

    /// What a call of `method` failed with. A fault of ours is logged here and told to nobody.
    pub(super) fn of(status: &Status, method: &str) -> Self {
        let code = status.code();
        if is_ours(code) {
            log(status, method);
            return Self::new(http_status(code), code, INTERNAL);
        }
        let http = match status.metadata().contains_key(TOO_LARGE) {
            true => StatusCode::PAYLOAD_TOO_LARGE,
            false => http_status(code),
        };
        Self::new(http, code, status.message())
    }

    /// The code in gRPC.
    pub(super) fn code(&self) -> Code {
        self.code
    }

    /// What the user is told.
    #[cfg(test)]
    pub(super) fn into_message(self) -> String {
        self.message
    }

    /// The answer.
    pub(super) fn into_response(self) -> Response {
        // By hand, so that the members stand in the order of the proto.
        let message = serde_json::Value::String(self.message);
        let code = i32::from(self.code);
        let body = format!(r#"{{"code":{code},"message":{message},"details":[]}}"#);
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.http;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self.http {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        if let Some(allow) = self.allow.and_then(|allow| allow.try_into().ok()) {
            headers.insert(ALLOW, allow);
        }
        response
    }
}

impl From<json::Error> for Error {
    fn from(error: json::Error) -> Self {
        Self::invalid(error.to_string())
    }
}

/// Does for a gRPC answer's headers or trailers what [`Error::of`] does for REST: logs a fault of ours, and takes
/// what it says out.
pub(super) fn conceal(headers: &mut HeaderMap, method: &str) {
    let Some(code) = code_in(headers).filter(|code| is_ours(*code)) else {
        return;
    };
    let status = Status::from_header_map(headers).unwrap_or_else(|| Status::new(code, ""));
    if status.message().starts_with(UNDECODABLE) {
        headers.insert(
            Status::GRPC_STATUS,
            HeaderValue::from(i32::from(Code::InvalidArgument)),
        );
        return;
    }
    log(&status, method);
    headers.insert(Status::GRPC_MESSAGE, HeaderValue::from_static(INTERNAL));
    headers.remove(Status::GRPC_STATUS_DETAILS);
}

/// The code that a gRPC answer's headers or trailers have, if they have one.
pub(super) fn code_in(headers: &HeaderMap) -> Option<Code> {
    let code = headers.get(Status::GRPC_STATUS)?;
    Some(Code::from_bytes(code.as_bytes()))
}

/// Whether a code says that the fault is ours and not the caller's.
fn is_ours(code: Code) -> bool {
    matches!(code, Code::Internal | Code::Unknown | Code::DataLoss)
}

fn log(status: &Status, method: &str) {
    tracing::error!(method, code = ?status.code(), error = status.message(), "a call failed");
}

/// The HTTP status for a code, as google.rpc.Code has it.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        // Google's table has 400 for it; but nothing is wrong with the request, and something is in its way.
        Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        // nginx's "client closed request", which has no name in the standard.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_ours_is_not_told() {
        let error = Error::of(&Status::internal("password=x"), "m");
        assert_eq!(
            (error.http, error.message.as_str()),
            (StatusCode::INTERNAL_SERVER_ERROR, INTERNAL)
        );

        let mut headers = HeaderMap::new();
        Status::internal("password=x").add_header(&mut headers).unwrap();
        conceal(&mut headers, "m");
        let status = Status::from_header_map(&headers).unwrap();
        assert_eq!((status.code(), status.message()), (Code::Internal, INTERNAL));
    }

    #[test]
    fn a_message_that_cannot_be_decoded_is_the_callers_fault() {
        let undecodable = <() as prost::Message>::decode(&[0xff][..]).unwrap_err();
        let mut headers = HeaderMap::new();
        Status::internal(undecodable.to_string())
            .add_header(&mut headers)
            .unwrap();
        conceal(&mut headers, "m");
        let status = Status::from_header_map(&headers).unwrap();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), undecodable.to_string());
    }

    #[test]
    fn what_the_caller_can_mend_is_told() {
        let mut headers = HeaderMap::new();
        Status::not_found("tenant 1 does not exist")
            .add_header(&mut headers)
            .unwrap();
        conceal(&mut headers, "m");
        assert_eq!(
            Status::from_header_map(&headers).unwrap().message(),
            "tenant 1 does not exist"
        );
    }

    #[test]
    fn some_errors_say_what_to_do_in_a_header() {
        let header = |status: Status, name| {
            Error::of(&status, "m")
                .into_response()
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
    }
}
