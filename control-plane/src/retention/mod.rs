//! What is kept of a tenant's messages: what is older, or more, is removed while others are stored and read.
//!
//! [`model`] checks what is asked for, [`plan`] decides what to do next about one tenant, [`store`] is the SQL, and
//! [`sweep`] is the loop that one control plane at a time runs, for as long as it has the [turn](crate::turn).
//!
//! Rows are deleted, and no sub-partitions dropped: a message's id is to be unique in its tenant's table, and a unique key
//! of a partitioned table has to hold what it is partitioned by.

mod failure;
mod model;
mod plan;
mod store;
mod sweep;

pub(crate) use self::{model::Retention, store::pool, sweep::Sweep};

use common::id::TenantId;
use sqlx::PgPool;

use crate::error::Error;

/// Sets what is kept of a living tenant's messages, and answers it.
pub(crate) async fn set(pool: &PgPool, tenant: TenantId, retention: Retention) -> Result<Retention, Error> {
    let retention = retention.check()?;
    store::set(pool, tenant, retention).await?;
    Ok(retention)
}
