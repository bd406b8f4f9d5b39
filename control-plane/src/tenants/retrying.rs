//! How many messages wait in delay queues, to be tried again.
//!
//! Those queues are shared by all tenants, so the broker cannot say whose they are: the daemons write that down.

use std::collections::HashMap;

use common::id::TenantId;
use sqlx::PgPool;
use uuid::Uuid;

/// How many of one tenant's.
pub(crate) async fn of(pool: &PgPool, tenant: TenantId) -> sqlx::Result<u32> {
    let count: i64 = sqlx::query_scalar(
        "select coalesce(sum(messages), 0)::bigint from waiting_retries where tenant_id = $1",
    )
    .bind(tenant.0)
    .fetch_one(pool)
    .await?;
    Ok(whole(count))
}

/// How many of each tenant that has any.
pub(crate) async fn all(pool: &PgPool) -> sqlx::Result<HashMap<TenantId, u32>> {
    let counts = sqlx::query_as::<_, (Uuid, i64)>(
        "select tenant_id, sum(messages)::bigint from waiting_retries group by tenant_id",
    );
    let counts = counts.fetch_all(pool).await?.into_iter();
    Ok(counts
        .map(|(tenant, count)| (TenantId(tenant), whole(count)))
        .collect())
}

fn whole(count: i64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
