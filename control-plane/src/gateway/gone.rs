//! A tenant that is gone takes its tokens with it.
//!
//! Nobody looks for that before a call: who has work to do for a tenant finds out whether there is one. For an admin that
//! is something not found; for the tenant's own token it is the token that is no good any more.

use axum::{extract::Request, middleware::Next, response::Response};
use http::HeaderMap;
use tonic::{Code, Status};

use super::error::code_in;
use crate::{
    failure::Reason,
    identity::{Caller, gone},
};

/// Passes a call on, and looks at its answer.
pub(super) async fn look(request: Request, next: Next) -> Response {
    let own = request.extensions().get::<Caller>().and_then(Caller::tenant);
    let response = next.run(request).await;
    match own {
        Some(tenant) if says_no_tenant(response.headers()) => gone(tenant).into_http(),
        _ => response,
    }
}

fn says_no_tenant(headers: &HeaderMap) -> bool {
    code_in(headers) == Some(Code::NotFound)
        && Status::from_header_map(headers)
            .is_some_and(|status| Reason::of(&status) == Reason::TenantNotFound)
}
