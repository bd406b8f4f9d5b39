//! What callers ask of limits.

use common::id::TenantId;
use sqlx::PgPool;

use super::{Backlogs, Limits, store};
use crate::error::Error;

/// Tenants' limits.
#[derive(Clone, Debug)]
pub(crate) struct Limiting {
    pub(crate) pool: PgPool,
    pub(crate) backlogs: Backlogs,
}

impl Limiting {
    /// Sets all of a living tenant's limits, and answers what they are now.
    pub(crate) async fn set(&self, tenant: TenantId, limits: Limits) -> Result<Limits, Error> {
        let limits = limits.check()?;
        self.backlogs.check(&limits)?;
        let before = store::set(&self.pool, tenant, limits).await?;
        // Also where nothing has changed: a try before may have come no further.
        if limits.has_backlog() || before.has_backlog() {
            self.backlogs.apply(tenant, &limits).await?;
        }
        Ok(limits)
    }
}
