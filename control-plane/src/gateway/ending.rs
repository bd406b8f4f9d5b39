//! When an answer that goes on ends by our own doing.

use std::future::pending;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{failure::Reason, identity::Lifetime};

/// Completes with what the caller is told: that its token is over, that the program stops, or that its deadline passed.
pub(super) async fn end(
    lifetime: Option<Lifetime>,
    closing: Option<CancellationToken>,
    deadline: Option<Instant>,
) -> Status {
    let expired = async {
        match &lifetime {
            Some(lifetime) => lifetime.over().await,
            None => pending().await,
        }
    };
    let closed = async {
        match &closing {
            Some(closing) => closing.cancelled().await,
            None => pending().await,
        }
    };
    let passed = async {
        match deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => pending().await,
        }
    };
    tokio::select! {
        status = expired => status,
        () = closed => Reason::Stopping.status("this control plane is stopping; connect again"),
        () = passed => late(),
    }
}

/// What a caller is told whose deadline passed.
pub(super) fn late() -> Status {
    Reason::DeadlineExceeded.status("the call's deadline passed; look what came of it, or make it again")
}
