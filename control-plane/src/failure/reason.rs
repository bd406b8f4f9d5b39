//! The one table of why calls fail: each reason's name, its code in gRPC and its status in HTTP.
//!
//! `docs/errors.md` tells users the same, with what to do. A test holds the two together.

use std::time::Duration;

use http::StatusCode;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{DOMAIN, Failure};

/// Makes the enum and its table from one list.
macro_rules! reasons {
    ($($(#[doc = $meaning:literal])+ $name:ident: $word:literal, $code:ident, $http:literal;)+) => {
        /// Why a call failed, for programs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Reason {
            $($(#[doc = $meaning])+ $name,)+
        }

        impl Reason {
            /// All there are.
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)+];

            /// Its name, as `google.rpc.ErrorInfo` has it. Names are for ever.
            pub(crate) fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }

            /// Its code in gRPC.
            pub(crate) fn code(self) -> Code {
                match self { $(Self::$name => Code::$code,)+ }
            }

            fn http_number(self) -> u16 {
                match self { $(Self::$name => $http,)+ }
            }
        }
    };
}

reasons! {
    /// A field holds what it may not.
    InvalidField: "INVALID_FIELD", InvalidArgument, 400;
    /// The request as a whole cannot be read.
    InvalidRequest: "INVALID_REQUEST", InvalidArgument, 400;
    /// The body is of another type than JSON.
    UnsupportedMediaType: "UNSUPPORTED_MEDIA_TYPE", InvalidArgument, 415;
    /// The body is encoded.
    UnsupportedEncoding: "UNSUPPORTED_ENCODING", InvalidArgument, 415;
    /// The request, or something in it, is too large; trying again changes nothing.
    RequestTooLarge: "REQUEST_TOO_LARGE", ResourceExhausted, 413;
    /// The body did not come.
    RequestTimeout: "REQUEST_TIMEOUT", DeadlineExceeded, 408;
    /// There is nothing at the path.
    PathNotFound: "PATH_NOT_FOUND", NotFound, 404;
    /// The path takes other methods of HTTP.
    MethodNotAllowed: "METHOD_NOT_ALLOWED", Unimplemented, 405;
    /// There is no such method in gRPC, or it cannot be called in this way.
    NotImplemented: "NOT_IMPLEMENTED", Unimplemented, 501;
    /// There is no token.
    TokenMissing: "TOKEN_MISSING", Unauthenticated, 401;
    /// The token is not accepted.
    TokenInvalid: "TOKEN_INVALID", Unauthenticated, 401;
    /// The token is over; get a new one.
    TokenExpired: "TOKEN_EXPIRED", Unauthenticated, 401;
    /// The token's issuer cannot be asked for its keys.
    IssuerUnavailable: "ISSUER_UNAVAILABLE", Unavailable, 503;
    /// The credential that is to buy a token is not accepted.
    InvalidClient: "INVALID_CLIENT", Unauthenticated, 401;
    /// The token's own tenant does not exist, or not any more.
    TenantGone: "TENANT_GONE", Unauthenticated, 401;
    /// The caller's role may not call the method.
    RoleDenied: "ROLE_DENIED", PermissionDenied, 403;
    /// The caller may not touch that tenant.
    TenantDenied: "TENANT_DENIED", PermissionDenied, 403;
    /// There is no such tenant.
    TenantNotFound: "TENANT_NOT_FOUND", NotFound, 404;
    /// No such daemon is alive.
    DaemonNotFound: "DAEMON_NOT_FOUND", NotFound, 404;
    /// Something else that was named is not there.
    NotFound: "NOT_FOUND", NotFound, 404;
    /// Something of that name or id is there already.
    AlreadyExists: "ALREADY_EXISTS", AlreadyExists, 409;
    /// Somebody has to mend something first.
    FailedPrecondition: "FAILED_PRECONDITION", FailedPrecondition, 409;
    /// Somebody else came in between.
    Aborted: "ABORTED", Aborted, 409;
    /// There is no room for more of this tenant's.
    TenantFull: "TENANT_FULL", ResourceExhausted, 429;
    /// It comes faster than it may.
    RateLimited: "RATE_LIMITED", ResourceExhausted, 429;
    /// There is no room for more of anybody's.
    Overloaded: "OVERLOADED", Unavailable, 503;
    /// It cannot be done at the moment.
    Unavailable: "UNAVAILABLE", Unavailable, 503;
    /// The tenant's queue is missing, and is being made again.
    QueueMissing: "QUEUE_MISSING", Unavailable, 503;
    /// PostgreSQL cannot do it at the moment.
    DatabaseUnavailable: "DATABASE_UNAVAILABLE", Unavailable, 503;
    /// RabbitMQ cannot do it at the moment.
    BrokerUnavailable: "BROKER_UNAVAILABLE", Unavailable, 503;
    /// What was to be done could not be written into the audit trail, and so was not done.
    AuditUnavailable: "AUDIT_UNAVAILABLE", Unavailable, 503;
    /// This control plane is stopping.
    Stopping: "STOPPING", Unavailable, 503;
    /// No answer came in time.
    DeadlineExceeded: "DEADLINE_EXCEEDED", DeadlineExceeded, 504;
    /// The caller went away.
    Cancelled: "CANCELLED", Cancelled, 499;
    /// A fault of ours.
    Internal: "INTERNAL", Internal, 500;
}

/// How soon it makes sense to try again what can be tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Reason {
    /// Its status in HTTP.
    pub(crate) fn http(self) -> StatusCode {
        StatusCode::from_u16(self.http_number()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// After how long to try again, where that may help.
    pub(crate) fn retry_after(self) -> Option<Duration> {
        let helps = matches!(
            self.http(),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        );
        helps.then_some(RETRY_AFTER)
    }

    /// A failure for this reason. The message is for people: what was wrong and what to do.
    pub(crate) fn failure(self, message: impl Into<String>) -> Failure {
        Failure::new(self, message.into())
    }

    /// The same as gRPC's status, where nothing more is to be said.
    pub(crate) fn status(self, message: impl Into<String>) -> Status {
        self.failure(message).into()
    }

    /// Why a call failed: as it says itself, or as its code says where it was made by one of our libraries.
    pub(crate) fn of(status: &Status) -> Self {
        let said = status
            .get_details_error_info()
            .filter(|info| info.domain == DOMAIN);
        let known = |word: &str| Self::ALL.iter().copied().find(|reason| reason.word() == word);
        said.and_then(|info| known(&info.reason))
            .unwrap_or_else(|| Self::of_code(status.code()))
    }

    fn of_code(code: Code) -> Self {
        match code {
            Code::InvalidArgument | Code::OutOfRange => Self::InvalidRequest,
            Code::Unauthenticated => Self::TokenInvalid,
            Code::PermissionDenied => Self::RoleDenied,
            Code::NotFound => Self::NotFound,
            Code::AlreadyExists => Self::AlreadyExists,
            Code::Aborted => Self::Aborted,
            Code::FailedPrecondition => Self::FailedPrecondition,
            Code::ResourceExhausted => Self::TenantFull,
            Code::Cancelled => Self::Cancelled,
            Code::Unimplemented => Self::NotImplemented,
            Code::Unavailable => Self::Unavailable,
            Code::DeadlineExceeded => Self::DeadlineExceeded,
            Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => Self::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use super::{super::code_word, *};

    /// What the document says of each reason.
    fn documented() -> BTreeMap<&'static str, (&'static str, u16)> {
        let document = include_str!("../../../docs/errors.md");
        let (_, reasons) = document.split_once("## Reasons").unwrap();
        let rows = reasons.lines().filter_map(|line| line.strip_prefix("| `"));
        let row = |row: &'static str| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let [word, code, http, meaning, remedy, ""] = cells[..] else {
                panic!("{row}: five cells are wanted");
            };
            assert!(!meaning.is_empty() && !remedy.is_empty(), "{row}");
            (word.trim_end_matches('`'), (code, http.parse().unwrap()))
        };
        let rows: Vec<_> = rows.map(row).collect();
        let documented: BTreeMap<_, _> = rows.iter().copied().collect();
        assert_eq!(documented.len(), rows.len(), "one stands there twice");
        documented
    }

    #[test]
    fn the_document_lists_every_reason_and_no_other() {
        let reasons = Reason::ALL
            .iter()
            .map(|reason| (reason.word(), (code_word(reason.code()), reason.http().as_u16())));
        assert_eq!(reasons.collect::<BTreeMap<_, _>>(), documented());
    }

    #[test]
    fn names_are_upper_snake_and_mean_one_thing() {
        for (at, reason) in Reason::ALL.iter().enumerate() {
            let word = reason.word();
            assert!(
                word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'),
                "{word}"
            );
            assert!(
                Reason::ALL[..at].iter().all(|other| other.word() != word),
                "{word}"
            );
        }
    }

    #[test]
    fn a_status_says_its_reason_and_another_librarys_is_known_by_its_code() {
        for reason in Reason::ALL {
            let status = reason.status("x");
            assert_eq!((Reason::of(&status), status.code()), (*reason, reason.code()));
        }
        assert_eq!(Reason::of(&Status::not_found("x")), Reason::NotFound);
        assert_eq!(Reason::of(&Status::unknown("x")), Reason::Internal);
        let foreign =
            tonic_types::ErrorDetails::with_error_info("TOKEN_MISSING", "example.com", HashMap::new());
        let foreign = Status::with_error_details(Code::Aborted, "x", foreign);
        assert_eq!(Reason::of(&foreign), Reason::Aborted);
    }

    #[test]
    fn a_code_that_stands_for_itself_keeps_its_code_and_its_status() {
        for code in (1..=16).map(Code::from_i32) {
            let reason = Reason::of_code(code);
            let is_alike = match code {
                Code::OutOfRange => reason.code() == Code::InvalidArgument,
                Code::Unknown | Code::DataLoss => reason.code() == Code::Internal,
                code => reason.code() == code,
            };
            assert!(is_alike, "{code:?}");
        }
    }
}
