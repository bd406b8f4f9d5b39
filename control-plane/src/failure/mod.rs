//! A call that failed, as it is told to its caller: a reason for programs, a message for people, and what is to blame.
//!
//! On the wire it is a `google.rpc.Status` with `ErrorInfo` always, `BadRequest` where a field is to blame, `RetryInfo`
//! where trying again may help; the gateway adds `RequestInfo`.

mod reason;

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

pub(crate) use self::reason::Reason;

/// Whose reasons they are, in `google.rpc.ErrorInfo`.
pub(crate) const DOMAIN: &str = "jalur";

/// A failed call, before it is gRPC's or REST's.
#[derive(Debug)]
pub(crate) struct Failure {
    reason: Reason,
    message: String,
    metadata: HashMap<String, String>,
    details: ErrorDetails,
    /// After how long the same will do, where that is known better than by the reason.
    again_after: Option<Duration>,
}

impl Failure {
    fn new(reason: Reason, message: String) -> Self {
        Self {
            reason,
            message,
            metadata: HashMap::new(),
            details: ErrorDetails::new(),
            again_after: None,
        }
    }

    /// What it is about, such as `tenant_id`.
    pub(crate) fn about(mut self, name: &str, value: impl ToString) -> Self {
        self.metadata.insert(name.to_owned(), value.to_string());
        self
    }

    /// A field that is to blame, by its path, and what is wrong with it.
    pub(crate) fn blames(mut self, field: &str, description: &str) -> Self {
        self.details.add_bad_request_violation(field, description);
        self
    }

    /// The same will do after that time.
    pub(crate) fn again_after(mut self, time: Duration) -> Self {
        self.again_after = Some(time);
        self
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let Failure {
            reason,
            message,
            metadata,
            mut details,
            again_after,
        } = failure;
        details.set_error_info(reason.word(), DOMAIN, metadata);
        if let Some(after) = again_after.or(reason.retry_after()) {
            details.set_retry_info(Some(after));
        }
        Self::with_error_details(reason.code(), message, details)
    }
}

/// A code as gRPC's documents write it.
pub(crate) fn code_word(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
