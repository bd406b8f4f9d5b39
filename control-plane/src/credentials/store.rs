//! The credentials' rows.

use std::{collections::HashSet, time::Duration};

use common::id::TenantId;
use sqlx::PgPool;
use uuid::Uuid;

use super::model::{Credential, NewCredential, Role};
use crate::error::Error;

/// The most credentials of one tenant; and the most with those that were revoked lately, which every control plane has
/// in mind.
const LIVING_MAX: i64 = 100;
const KEPT_MAX: i64 = 1_000;

/// What is needed to sell a token.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Found {
    #[sqlx(try_from = "Uuid")]
    pub(super) tenant_id: TenantId,
    pub(super) role: Role,
    pub(super) secret_hash: String,
    /// Whether it has bought one before.
    pub(super) used: bool,
    /// Whether that was more than a minute ago, or never.
    pub(super) stale: bool,
}

/// Adds a credential of a living tenant.
pub(super) async fn insert(
    pool: &PgPool,
    tenant: TenantId,
    client_id: Uuid,
    new: &NewCredential,
    secret_hash: &str,
) -> Result<(), Error> {
    let mut transaction = pool.begin().await?;
    // One at a time, so that the count is right; and not while the tenant is taken apart.
    let living: Option<Uuid> = sqlx::query_scalar(
        "select id from tenants where id = $1 and phase in ('creating', 'ready') for no key update",
    )
    .bind(tenant.0)
    .fetch_optional(&mut *transaction)
    .await?;
    living.ok_or(Error::NoTenant(tenant))?;
    let (living, kept): (i64, i64) = sqlx::query_as(
        "select count(*) filter (where revoked_at is null), count(*) from credentials where tenant_id = $1",
    )
    .bind(tenant.0)
    .fetch_one(&mut *transaction)
    .await?;
    if living >= LIVING_MAX {
        return Err(Error::Precondition(format!(
            "tenant {tenant} has {LIVING_MAX} credentials, which is as many as it may; revoke one that is not used any more"
        )));
    }
    if kept >= KEPT_MAX {
        return Err(Error::Full(format!(
            "tenant {tenant} has revoked very many credentials within a day; make another one tomorrow"
        )));
    }
    sqlx::query(
        "insert into credentials (client_id, tenant_id, role, label, secret_hash, amqp, login)
         values ($1, $2, $3, $4, $5, $6, case when $6 then 'making' end)",
    )
    .bind(client_id)
    .bind(tenant.0)
    .bind(new.role)
    .bind(&new.label)
    .bind(secret_hash)
    .bind(new.amqp)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

/// A tenant's credentials that are good, in order of their creation. There are few.
pub(super) async fn list(pool: &PgPool, tenant: TenantId) -> Result<Vec<Credential>, Error> {
    Ok(sqlx::query_as(
        "select client_id, role, label, amqp, created_at, last_used_at from credentials
         where tenant_id = $1 and revoked_at is null and login is distinct from 'making'
         order by created_at, client_id
         limit $2",
    )
    .bind(tenant.0)
    .bind(LIVING_MAX)
    .fetch_all(pool)
    .await?)
}

/// A credential that was revoked just now.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Revoked {
    /// Whether it is a login at RabbitMQ, too.
    pub(super) amqp: bool,
}

/// Revokes a tenant's credential; `None` where there was none.
pub(super) async fn revoke(
    pool: &PgPool,
    tenant: TenantId,
    client_id: Uuid,
) -> Result<Option<Revoked>, Error> {
    Ok(sqlx::query_as(
        "update credentials set revoked_at = now()
         where client_id = $1 and tenant_id = $2 and revoked_at is null
         returning amqp",
    )
    .bind(client_id)
    .bind(tenant.0)
    .fetch_optional(pool)
    .await?)
}

/// A credential that is good, of a tenant that lives.
pub(super) async fn find(pool: &PgPool, client_id: Uuid) -> Result<Option<Found>, Error> {
    Ok(sqlx::query_as(
        "select c.tenant_id, c.role, c.secret_hash, c.last_used_at is not null as used,
                coalesce(c.last_used_at < now() - interval '1 minute', true) as stale
         from credentials c join tenants t on t.id = c.tenant_id
         where c.client_id = $1 and c.revoked_at is null and t.phase in ('creating', 'ready')",
    )
    .bind(client_id)
    .fetch_optional(pool)
    .await?)
}

/// Writes down that a credential is used now; answers whether it is still good.
pub(super) async fn touch(pool: &PgPool, client_id: Uuid) -> Result<bool, Error> {
    let touched = sqlx::query(
        "update credentials set last_used_at = now() where client_id = $1 and revoked_at is null",
    )
    .bind(client_id)
    .execute(pool)
    .await?;
    Ok(touched.rows_affected() > 0)
}

/// Credentials that were revoked and have bought a token since `ago`.
pub(super) async fn revoked(pool: &PgPool, ago: Duration) -> Result<HashSet<Uuid>, sqlx::Error> {
    let revoked: Vec<Uuid> = sqlx::query_scalar(
        "select client_id from credentials
         where revoked_at is not null and last_used_at > now() - make_interval(secs => $1)",
    )
    .bind(ago.as_secs_f64())
    .fetch_all(pool)
    .await?;
    Ok(revoked.into_iter().collect())
}

/// Forgets some of those that were revoked and have bought no token since `ago`.
pub(super) async fn tidy(pool: &PgPool, ago: Duration, limit: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "delete from credentials where client_id in (
             select client_id from credentials
             where revoked_at is not null and login is null
                   and coalesce(last_used_at < now() - make_interval(secs => $1), true)
             limit $2)",
    )
    .bind(ago.as_secs_f64())
    .bind(limit)
    .execute(pool)
    .await?;
    Ok(())
}

/// The login of a credential is made; answers whether the credential is still good.
pub(super) async fn login_made(pool: &PgPool, client_id: Uuid) -> Result<bool, Error> {
    let made = sqlx::query(
        "update credentials set login = 'made'
         where client_id = $1 and login = 'making' and revoked_at is null",
    )
    .bind(client_id)
    .execute(pool)
    .await?;
    Ok(made.rows_affected() > 0)
}

/// The login of a credential that was revoked is removed: for the first time, or for good.
pub(super) async fn login_removed(pool: &PgPool, client_id: Uuid) -> Result<(), Error> {
    sqlx::query(
        "update credentials
         set login = case when login = 'closing' and revoked_at < now() - interval '1 minute' then null else 'closing' end
         where client_id = $1 and login is not null and revoked_at is not null",
    )
    .bind(client_id)
    .execute(pool)
    .await?;
    Ok(())
}

/// Revokes credentials whose login was begun and not finished for longer than a call takes: a crash left them behind,
/// and nobody knows their secret.
pub(super) async fn give_up_logins(pool: &PgPool) -> Result<(), Error> {
    sqlx::query(
        "update credentials set revoked_at = now()
         where login = 'making' and revoked_at is null and created_at < now() - interval '1 minute'",
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Credentials whose login is to be removed, for the first or the second time.
pub(super) async fn unwanted_logins(pool: &PgPool, limit: i64) -> Result<Vec<Uuid>, Error> {
    Ok(sqlx::query_scalar(
        "select client_id from credentials
         where login is not null and revoked_at is not null
               and (login <> 'closing' or revoked_at < now() - interval '1 minute')
         order by created_at
         limit $1",
    )
    .bind(limit)
    .fetch_all(pool)
    .await?)
}
