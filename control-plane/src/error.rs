//! What can go wrong for a caller, and the reason that each is on the wire.

use std::time::Duration;

use common::{broker, id::TenantId};
use tonic::{Code, Status};
use tracing::debug;
use uuid::Uuid;

use crate::{
    broker::QueueError,
    failure::{Failure, Reason},
    memory::Full,
};

/// What is wrong with a field, as a sentence where it can be one.
fn of_field(field: &str, message: &str) -> String {
    let goes_on = ["must ", "is ", "has "]
        .iter()
        .any(|verb| message.starts_with(verb));
    format!("{field}{}{message}", if goes_on { " " } else { ": " })
}

/// Why a call failed. The text is for the caller: what was wrong and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A field will not do.
    #[error("{}", of_field(.field, .message))]
    Invalid { field: String, message: String },
    /// A field holds too much.
    #[error("{}", of_field(.field, .message))]
    TooLarge { field: String, message: String },
    /// No living tenant has that id.
    #[error("tenant {0} does not exist")]
    NoTenant(TenantId),
    /// No living daemon has that id.
    #[error("daemon {0:?} is not alive; GET /api/daemons lists those that are")]
    NoDaemon(String),
    /// The tenant has no stored message with that id.
    #[error(
        "no message {0} is stored; it may be in the queue or among the dead letters yet, or was never sent"
    )]
    NoMessage(Uuid),
    /// The tenant has no dead letter with that id, as far as is looked.
    #[error(
        "no message {0} is among the tenant's oldest 10,000 dead letters; it may have been replayed or deleted, and GET \
         /api/tenants/{{id}}/dead-letters lists those that are there"
    )]
    NoDeadLetter(Uuid),
    /// The tenant has no credential with that id.
    #[error(
        "the tenant has no credential {0}, or not any more; GET /api/tenants/{{id}}/credentials lists those it has"
    )]
    NoCredential(Uuid),
    /// Nobody who is known asked for a token. What of it is wrong is not said.
    #[error("the client_id or the client_secret is wrong, or the credential was revoked")]
    Client,
    /// Something is there already.
    #[error("{0}")]
    Exists(String),
    /// A living tenant's queue of that name is not there.
    #[error("the queue {0} is missing, and is being made again; try again")]
    NoQueue(String),
    /// There is no room for more of the tenant's.
    #[error("{0}")]
    Full(String),
    /// Requests hold as much memory as they may.
    #[error(transparent)]
    Memory(#[from] Full),
    /// It comes faster than it may.
    #[error("{message}; send again in {} s", seconds(*retry_after))]
    TooFast { message: String, retry_after: Duration },
    /// It cannot be done until somebody has mended something: trying again changes nothing.
    #[error("{0}")]
    Precondition(String),
    /// It cannot be done now; trying again will do it.
    #[error("{0}")]
    Unavailable(String),
    /// A fault of ours.
    #[error("{0}")]
    Fault(String),
    /// PostgreSQL failed.
    #[error("{}", outage(.0).map_or_else(|| .0.to_string(), str::to_owned))]
    Database(#[from] sqlx::Error),
    /// RabbitMQ failed.
    #[error("{0}; try again")]
    Broker(#[from] broker::Error),
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            message: message.into(),
        }
    }

    /// Whether trying again will do it.
    pub(crate) fn is_for_now(&self) -> bool {
        self.reason().code() == Code::Unavailable
    }

    fn reason(&self) -> Reason {
        match self {
            Self::Invalid { .. } => Reason::InvalidField,
            Self::TooLarge { .. } => Reason::RequestTooLarge,
            Self::NoTenant(_) => Reason::TenantNotFound,
            Self::NoDaemon(_) => Reason::DaemonNotFound,
            Self::NoMessage(_) | Self::NoDeadLetter(_) | Self::NoCredential(_) => Reason::NotFound,
            Self::Client => Reason::InvalidClient,
            Self::Exists(_) => Reason::AlreadyExists,
            Self::NoQueue(_) => Reason::QueueMissing,
            Self::Full(_) => Reason::TenantFull,
            Self::TooFast { .. } => Reason::RateLimited,
            Self::Memory(full) => full.reason(),
            Self::Precondition(_) => Reason::FailedPrecondition,
            Self::Unavailable(_) => Reason::Unavailable,
            Self::Broker(_) => Reason::BrokerUnavailable,
            Self::Database(error) if outage(error).is_some() => Reason::DatabaseUnavailable,
            Self::Database(error) if is_unstorable_text(error) => Reason::InvalidRequest,
            Self::Database(_) | Self::Fault(_) => Reason::Internal,
        }
    }

    /// What else of it is for programs.
    fn on(&self, failure: Failure) -> Failure {
        match self {
            Self::Invalid { field, message } | Self::TooLarge { field, message } => {
                failure.blames(field, message)
            }
            Self::NoTenant(tenant) => failure.about("tenant_id", tenant),
            Self::NoDaemon(daemon) => failure.about("daemon_id", daemon),
            Self::NoMessage(message) | Self::NoDeadLetter(message) => failure.about("message_id", message),
            Self::NoCredential(credential) => failure.about("client_id", credential),
            Self::NoQueue(queue) => failure.about("queue", queue),
            Self::TooFast { retry_after, .. } => failure.again_after(*retry_after),
            _ => failure,
        }
    }
}

/// Whole ones, after which the time is over.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// What a caller is told where PostgreSQL could not do something now, as opposed to our asking it something wrong.
pub(crate) fn outage(error: &sqlx::Error) -> Option<&'static str> {
    const UNREACHABLE: &str = "PostgreSQL cannot be reached; try again";
    const BUSY: &str =
        "PostgreSQL is busy: what was asked waited too long for others, or was given up for them; try again";
    let code = match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            return Some(UNREACHABLE);
        }
        sqlx::Error::PoolTimedOut => {
            return Some("PostgreSQL cannot be reached, or no connection to it came free in time; try again");
        }
        sqlx::Error::Database(error) => error.code()?,
        _ => return None,
    };
    Some(match &*code {
        "25006" => {
            "PostgreSQL takes no changes: it is read-only, or a standby; the change can be made when it is writable again"
        }
        // The timeouts of a statement, of a lock, of a transaction; deadlocks and what could not be serialised.
        "57014" | "55P03" | "25P03" | "25P04" => BUSY,
        code if code.starts_with("40") => BUSY,
        code if code.starts_with("53") => "PostgreSQL is out of connections, memory or disk; try again",
        code if code.starts_with("58") => "PostgreSQL cannot read or write its files; try again",
        // Who we are, or which database is meant, is refused at the connection alone.
        code if ["28", "3D"].iter().any(|class| code.starts_with(class)) => {
            "PostgreSQL does not let the control plane in; its log and database.url say why"
        }
        // Connection lost, operator intervention.
        code if ["08", "57"].iter().any(|class| code.starts_with(class)) => UNREACHABLE,
        _ => return None,
    })
}

impl From<QueueError> for Error {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Broker(error) => error.into(),
            error @ (QueueError::Mismatch { .. }
            | QueueError::Exchange { .. }
            | QueueError::Refused { .. }) => Self::Precondition(error.to_string()),
        }
    }
}

/// Whether a text had what no text in PostgreSQL has: a null character, which no field's own check has met.
fn is_unstorable_text(error: &sqlx::Error) -> bool {
    const CHARACTER_NOT_IN_REPERTOIRE: &str = "22021";
    error
        .as_database_error()
        .is_some_and(|error| error.code().as_deref() == Some(CHARACTER_NOT_IN_REPERTOIRE))
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let reason = error.reason();
        let message = match &error {
            Error::Database(_) if reason == Reason::InvalidRequest => {
                "a text has a null character, which PostgreSQL cannot hold".to_owned()
            }
            // The gateway logs what is our fault, and keeps it from the caller.
            error => error.to_string(),
        };
        if let Error::Database(cause) = &error {
            debug!(%cause, "PostgreSQL could not do what a call needed");
        }
        error.on(reason.failure(message)).into()
    }
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, error, fmt};

    use sqlx::error::{DatabaseError, ErrorKind};

    use super::*;

    /// What PostgreSQL answers with an SQLSTATE.
    #[derive(Debug)]
    struct Answer(&'static str);

    impl fmt::Display for Answer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("cannot execute INSERT")
        }
    }

    impl error::Error for Answer {}

    impl DatabaseError for Answer {
        fn message(&self) -> &str {
            "cannot execute INSERT"
        }
        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.into())
        }
        fn as_error(&self) -> &(dyn error::Error + Send + Sync + 'static) {
            self
        }
        fn as_error_mut(&mut self) -> &mut (dyn error::Error + Send + Sync + 'static) {
            self
        }
        fn into_error(self: Box<Self>) -> Box<dyn error::Error + Send + Sync + 'static> {
            self
        }
        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    #[test]
    fn what_postgresql_cannot_do_now_is_said_for_what_it_is() {
        for (sqlstate, says) in [
            ("25006", "read-only"),
            ("40P01", "busy"),
            ("40001", "busy"),
            ("55P03", "busy"),
            ("57014", "busy"),
            ("25P03", "busy"),
            ("53300", "out of connections"),
            ("58030", "its files"),
            ("28P01", "database.url"),
            ("3D000", "database.url"),
            ("08006", "cannot be reached"),
            ("57P01", "cannot be reached"),
            ("57P03", "cannot be reached"),
        ] {
            let status = Status::from(Error::from(sqlx::Error::Database(Box::new(Answer(sqlstate)))));
            assert_eq!(status.code(), Code::Unavailable, "{sqlstate}");
            assert!(
                status.message().contains(says),
                "{sqlstate}: {}",
                status.message()
            );
        }
        for sqlstate in ["42703", "22P02", "23505", "XX000"] {
            let status = Status::from(Error::from(sqlx::Error::Database(Box::new(Answer(sqlstate)))));
            assert_eq!(status.code(), Code::Internal, "{sqlstate}");
        }
    }
}
