//! The tenants' rows.

use common::id::TenantId;
use sqlx::{PgExecutor, PgPool};

use super::model::{NewTenant, PageToken, Tenant, Update};
use crate::error::Error;

const NAME_TAKEN: &str = "tenants_name";

/// Makes the row of a new tenant, or finds the one that an earlier try with the same id and content made.
pub(super) async fn insert(pool: &PgPool, new: &NewTenant) -> Result<Tenant, Error> {
    let content = &new.content;
    let created_with =
        serde_json::to_string(content).map_err(|error| Error::Unavailable(error.to_string()))?;
    let inserted = sqlx::query_as::<_, Tenant>(
        "insert into tenants (id, name, description, status, phase, workers, created_with)
         values ($1, $2, $3, $4, 'creating', $5, $6::jsonb)
         on conflict (id) do nothing
         returning *",
    )
    .bind(new.id.0)
    .bind(&content.name)
    .bind(&content.description)
    .bind(content.status)
    .bind(new.workers)
    .bind(&created_with)
    .fetch_optional(pool)
    .await
    .map_err(|error| name_taken(error, &content.name))?;
    if let Some(tenant) = inserted {
        return Ok(tenant);
    }
    let same = sqlx::query_as::<_, Tenant>(
        "select * from tenants
         where id = $1 and created_with = $2::jsonb and phase in ('creating', 'ready')",
    )
    .bind(new.id.0)
    .bind(&created_with)
    .fetch_optional(pool)
    .await?;
    same.ok_or_else(|| {
        Error::Exists(format!(
            "id {} is taken: by a tenant of other content, or by one that was deleted; choose another, or leave it out",
            new.id
        ))
    })
}

fn name_taken(error: sqlx::Error, name: &str) -> Error {
    match &error {
        sqlx::Error::Database(cause) if cause.constraint() == Some(NAME_TAKEN) => Error::Exists(format!(
            "name: a tenant named {name:?} exists already; choose another name"
        )),
        _ => error.into(),
    }
}

/// Finds a living tenant.
pub(super) async fn get(pool: &PgPool, id: TenantId) -> Result<Tenant, Error> {
    sqlx::query_as("select * from tenants where id = $1 and phase in ('creating', 'ready')")
        .bind(id.0)
        .fetch_optional(pool)
        .await?
        .ok_or(Error::NoTenant(id))
}

/// A page of living tenants in order of creation.
pub(super) async fn list(pool: &PgPool, after: Option<PageToken>, limit: i64) -> Result<Vec<Tenant>, Error> {
    let (created_at, id) = after.map(|token| (token.created_at, token.id)).unzip();
    Ok(sqlx::query_as(
        "select * from tenants
         where phase in ('creating', 'ready') and ($1::timestamptz is null or (created_at, id) > ($1, $2))
         order by created_at, id
         limit $3",
    )
    .bind(created_at)
    .bind(id)
    .bind(limit)
    .fetch_all(pool)
    .await?)
}

/// Changes what is set in `update`.
pub(super) async fn update(pool: &PgPool, id: TenantId, update: &Update) -> Result<Tenant, Error> {
    sqlx::query_as(
        "update tenants
         set name = coalesce($2, name), description = coalesce($3, description), status = coalesce($4, status),
             updated_at = now()
         where id = $1 and phase in ('creating', 'ready')
         returning *",
    )
    .bind(id.0)
    .bind(&update.name)
    .bind(&update.description)
    .bind(update.status)
    .fetch_optional(pool)
    .await
    .map_err(|error| name_taken(error, update.name.as_deref().unwrap_or_default()))?
    .ok_or(Error::NoTenant(id))
}

/// Sets how many workers a living tenant has.
pub(super) async fn set_workers(pool: &PgPool, id: TenantId, workers: i32) -> Result<(), Error> {
    let changed = sqlx::query(
        "update tenants set workers = $2, updated_at = case when workers = $2 then updated_at else now() end
         where id = $1 and phase in ('creating', 'ready')",
    )
    .bind(id.0)
    .bind(workers)
    .execute(pool)
    .await?;
    if changed.rows_affected() == 0 {
        Err(Error::NoTenant(id))
    } else {
        Ok(())
    }
}

/// From `creating` to `ready`. A tenant that was deleted meanwhile stays so.
pub(super) async fn set_ready(pool: &PgPool, id: TenantId) -> Result<Tenant, Error> {
    sqlx::query("update tenants set phase = 'ready' where id = $1 and phase = 'creating'")
        .bind(id.0)
        .execute(pool)
        .await?;
    get(pool, id).await
}

/// From living to `deleting`.
pub(super) async fn set_deleting(pool: &PgPool, id: TenantId) -> Result<(), Error> {
    let changed = sqlx::query(
        "update tenants set phase = 'deleting', updated_at = now()
         where id = $1 and phase in ('creating', 'ready')",
    )
    .bind(id.0)
    .execute(pool)
    .await?;
    if changed.rows_affected() == 0 {
        Err(Error::NoTenant(id))
    } else {
        Ok(())
    }
}

/// From `deleting` to `gone`: only the row, and so the id, stays.
pub(super) async fn set_gone(connection: impl PgExecutor<'_>, id: TenantId) -> Result<(), Error> {
    sqlx::query(
        "with counters as (delete from positions where tenant_id = $1),
              lanes as (delete from assignments where tenant_id = $1),
              troubles as (delete from problems where tenant_id = $1)
         update tenants set phase = 'gone', updated_at = now() where id = $1 and phase = 'deleting'",
    )
    .bind(id.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// Tenants that something has been done to, and has not been finished for a while: what crashes leave behind.
pub(super) async fn unfinished(pool: &PgPool, idle_seconds: f64, limit: i64) -> Result<Vec<Tenant>, Error> {
    Ok(sqlx::query_as(
        "select * from tenants
         where phase in ('creating', 'deleting') and updated_at < now() - make_interval(secs => $1)
         order by updated_at
         limit $2",
    )
    .bind(idle_seconds)
    .bind(limit)
    .fetch_all(pool)
    .await?)
}
