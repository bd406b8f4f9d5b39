//! The tenant that a call is about, where only its handler knows: one that it creates.

use std::sync::{Arc, OnceLock};

use common::id::TenantId;

/// A slot in a request's extensions for the tenant that is made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Target(Arc<OnceLock<TenantId>>);

impl Target {
    /// The request's. One that is not recorded has one that nobody reads.
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Self {
        request.extensions().get().cloned().unwrap_or_default()
    }

    /// It is this one. The first who says so is right.
    pub(crate) fn is(&self, tenant: TenantId) {
        let _ = self.0.set(tenant);
    }

    pub(crate) fn tenant(&self) -> Option<TenantId> {
        self.0.get().copied()
    }
}
