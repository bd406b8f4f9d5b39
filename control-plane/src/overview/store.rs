//! What PostgreSQL is asked for.

use std::collections::HashMap;

use common::id::TenantId;
use sqlx::{PgExecutor, PgPool};
use uuid::Uuid;

use super::counts::System;
use crate::problems;

/// How many messages of each tenant were stored in all.
pub(super) async fn stored(executor: impl PgExecutor<'_>) -> Result<HashMap<TenantId, i64>, sqlx::Error> {
    let rows: Vec<(Uuid, i64)> = sqlx::query_as("select tenant_id, stored from positions")
        .fetch_all(executor)
        .await?;
    Ok(rows
        .into_iter()
        .map(|(tenant, stored)| (TenantId(tenant), stored))
        .collect())
}

/// What is told of the whole system.
pub(super) async fn system(pool: &PgPool) -> Result<System, sqlx::Error> {
    let count = async |sql: &'static str| sqlx::query_as::<_, (String, i64)>(sql).fetch_all(pool).await;
    Ok(System {
        tenants: count(
            "select case phase when 'ready' then status else phase end, count(*) from tenants
             where phase <> 'gone' group by 1",
        )
        .await?,
        daemons: count("select state, count(*) from daemons where state <> 'gone' group by 1").await?,
        // A daemon that is alive and has none has none.
        assignments: count(
            "select d.id, count(a.tenant_id) filter (where a.workers > 0)
             from daemons d left join assignments a on a.daemon_id = d.id
             where d.state <> 'gone' group by 1",
        )
        .await?,
        problems: problems::counts(pool).await?,
    })
}

/// Tenants whose queues are there.
pub(super) async fn ready(executor: impl PgExecutor<'_>, limit: i64) -> Result<Vec<TenantId>, sqlx::Error> {
    let ids: Vec<Uuid> =
        sqlx::query_scalar("select id from tenants where phase = 'ready' order by id limit $1")
            .bind(limit)
            .fetch_all(executor)
            .await?;
    Ok(ids.into_iter().map(TenantId).collect())
}

/// What of these tenants' messages was delivered and is not settled yet.
pub(super) async fn held(
    executor: impl PgExecutor<'_>,
    tenants: &[TenantId],
) -> Result<Vec<(TenantId, u32)>, sqlx::Error> {
    let rows: Vec<(Uuid, i64)> = sqlx::query_as(
        "select tenant_id, sum(observed_held)::bigint from assignments
         where observed_held > 0 and tenant_id = any($1) group by 1",
    )
    .bind(tenants.iter().map(|tenant| tenant.0).collect::<Vec<_>>())
    .fetch_all(executor)
    .await?;
    let held = |held| u32::try_from(held).unwrap_or(u32::MAX);
    Ok(rows
        .into_iter()
        .map(|(tenant, count)| (TenantId(tenant), held(count)))
        .collect())
}
