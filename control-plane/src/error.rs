//! What can go wrong for a caller, and the one table of what each is on the wire.

use common::{broker, id::TenantId};
use tonic::{Code, Status, metadata::MetadataValue};
use tracing::debug;

use crate::broker::QueueError;

/// The metadata of a RESOURCE_EXHAUSTED that no later try changes: what was sent is too large.
pub(crate) const TOO_LARGE: &str = "x-jalur-too-large";

/// Why a call failed. The text is for the caller: what was wrong and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A field will not do.
    #[error("{field}: {message}")]
    Invalid { field: String, message: String },
    /// A field holds too much.
    #[error("{field}: {message}")]
    TooLarge { field: String, message: String },
    /// No living tenant has that id.
    #[error("tenant {0} does not exist")]
    NoTenant(TenantId),
    /// No living daemon has that id.
    #[error("daemon {0:?} is not alive; GET /api/daemons lists those that are")]
    NoDaemon(String),
    /// Something is there already.
    #[error("{0}")]
    Exists(String),
    /// There is no room for more.
    #[error("{0}")]
    Full(String),
    /// A queue is not as it is to be, which only an operator can mend.
    #[error("{0}; delete or rename it in RabbitMQ, or remove the policy or declaration that made it so")]
    Mismatch(QueueError),
    /// It cannot be done now; trying again will do it.
    #[error("{0}")]
    Unavailable(String),
    /// PostgreSQL failed.
    #[error(transparent)]
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

    fn code(&self) -> Code {
        match self {
            Self::Invalid { .. } => Code::InvalidArgument,
            Self::TooLarge { .. } | Self::Full(_) => Code::ResourceExhausted,
            Self::Mismatch(_) => Code::FailedPrecondition,
            Self::NoTenant(_) | Self::NoDaemon(_) => Code::NotFound,
            Self::Exists(_) => Code::AlreadyExists,
            Self::Unavailable(_) | Self::Broker(_) => Code::Unavailable,
            Self::Database(error) if is_outage(error) => Code::Unavailable,
            Self::Database(error) if is_unstorable_text(error) => Code::InvalidArgument,
            Self::Database(_) => Code::Internal,
        }
    }
}

/// Whether PostgreSQL could not be reached, or could not take more, as opposed to our asking it something wrong.
fn is_outage(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        // Connection lost, insufficient resources, operator intervention, lock not available, and the timeouts.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            ["08", "53", "57", "55P03", "40"]
                .iter()
                .any(|class| code.starts_with(class))
        }),
        _ => false,
    }
}

impl From<QueueError> for Error {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Broker(error) => error.into(),
            error @ QueueError::Mismatch { .. } => Self::Mismatch(error),
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
        let code = error.code();
        let message = match &error {
            Error::Database(cause) if code == Code::Unavailable => {
                debug!(%cause, "PostgreSQL could not do what a call needed");
                "PostgreSQL cannot be reached or is busy; try again".to_owned()
            }
            Error::Database(_) if code == Code::InvalidArgument => {
                "a text has a null character, which PostgreSQL cannot hold".to_owned()
            }
            // The gateway logs what is our fault, and keeps it from the caller.
            error => error.to_string(),
        };
        let mut status = Self::new(code, message);
        if let Error::TooLarge { .. } = error {
            status
                .metadata_mut()
                .insert(TOO_LARGE, MetadataValue::from_static("true"));
        }
        status
    }
}
