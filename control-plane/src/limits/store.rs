//! The limits in tenants' rows.

use std::collections::{BTreeMap, BTreeSet};

use common::id::TenantId;
use sqlx::PgPool;
use uuid::Uuid;

use super::Limits;
use crate::{error::Error, fleet};

/// Sets a living tenant's limits, and answers what they were. Whoever runs its lanes is told, if these are to go at another
/// pace.
pub(super) async fn set(pool: &PgPool, tenant: TenantId, limits: Limits) -> Result<Limits, Error> {
    let mut transaction = pool.begin().await?;
    let before: Limits = sqlx::query_as(
        "select publish_per_second, store_per_second, backlog_messages, backlog_bytes from tenants
         where id = $1 and phase in ('creating', 'ready')
         for no key update",
    )
    .bind(tenant.0)
    .fetch_optional(&mut *transaction)
    .await?
    .ok_or(Error::NoTenant(tenant))?;
    if limits == before {
        return Ok(before);
    }
    sqlx::query(
        "update tenants
         set publish_per_second = $2, store_per_second = $3, backlog_messages = $4, backlog_bytes = $5,
             updated_at = now()
         where id = $1",
    )
    .bind(tenant.0)
    .bind(limits.publish_per_second)
    .bind(limits.store_per_second)
    .bind(limits.backlog_messages)
    .bind(limits.backlog_bytes)
    .execute(&mut *transaction)
    .await?;
    if limits.store_per_second != before.store_per_second {
        fleet::tell_anew(&mut transaction, tenant).await?;
    }
    transaction.commit().await?;
    Ok(before)
}

/// The living tenants whose backlog is limited.
pub(super) async fn backlogs(pool: &PgPool) -> Result<BTreeMap<TenantId, Limits>, Error> {
    #[derive(sqlx::FromRow)]
    struct Row {
        id: Uuid,
        #[sqlx(flatten)]
        limits: Limits,
    }
    let rows: Vec<Row> = sqlx::query_as(
        "select id, publish_per_second, store_per_second, backlog_messages, backlog_bytes from tenants
         where phase in ('creating', 'ready') and (backlog_messages is not null or backlog_bytes is not null)",
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (TenantId(row.id), row.limits))
        .collect())
}

/// Those of `tenants` that are known, and whose backlog is limited no more: it was lifted, or they are gone.
pub(super) async fn without_backlog(
    pool: &PgPool,
    tenants: &[TenantId],
) -> Result<BTreeSet<TenantId>, Error> {
    if tenants.is_empty() {
        return Ok(BTreeSet::new());
    }
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "select id from tenants
         where id = any($1)
               and (phase in ('deleting', 'gone') or backlog_messages is null and backlog_bytes is null)",
    )
    .bind(tenants.iter().map(|tenant| tenant.0).collect::<Vec<_>>())
    .fetch_all(pool)
    .await?;
    Ok(ids.into_iter().map(TenantId).collect())
}
