//! A tenant that is gone takes its tokens with it.
//!
//! Nobody looks for that before a call: who has work to do for a tenant finds out whether there is one. For an admin that
//! is something not found; for the tenant's own token it is the token that is no good any more.

use axum::{extract::Request, middleware::Next, response::Response};
use tonic::Status;

use crate::{error::NO_TENANT, identity::Caller};

/// Passes a call on, and looks at its answer.
pub(super) async fn look(request: Request, next: Next) -> Response {
    let own = request.extensions().get::<Caller>().and_then(Caller::tenant);
    let response = next.run(request).await;
    match own {
        Some(tenant) if response.headers().contains_key(NO_TENANT) => Status::unauthenticated(format!(
            "the token is not accepted: its tenant {tenant} does not exist, or not any more"
        ))
        .into_http(),
        _ => response,
    }
}
