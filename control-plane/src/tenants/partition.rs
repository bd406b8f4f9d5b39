//! A tenant's partition: made and dropped without a lock that other tenants' writes would wait for.
//!
//! `create table … partition of` and a plain `detach` lock the whole of `messages`. A table that is made alone and
//! attached, and one that is detached concurrently, do not. Both are safe to begin again after a crash.

use common::id::TenantId;
use sqlx::{AssertSqlSafe, PgPool};
use tracing::warn;

use crate::error::Error;

/// Makes the partition and the position counter, where they are not there yet.
pub(super) async fn create(pool: &PgPool, tenant: TenantId) -> Result<(), Error> {
    let table = tenant.partition();
    let mut transaction = pool.begin().await?;
    // Two control planes may be at the same tenant: the second finds it done.
    sqlx::query("select pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(&table)
        .execute(&mut *transaction)
        .await?;
    let attached: Option<bool> = sqlx::query_scalar(
        "select exists (select from pg_inherits where inhrelid = c.oid)
         from pg_class c where c.oid = to_regclass($1)",
    )
    .bind(&table)
    .fetch_optional(&mut *transaction)
    .await?;
    if attached.is_none() {
        let create = format!("create table {table} (like messages including all)");
        sqlx::query(AssertSqlSafe(create))
            .execute(&mut *transaction)
            .await?;
    }
    if attached != Some(true) {
        let attach = format!("alter table messages attach partition {table} for values in ('{tenant}')");
        sqlx::query(AssertSqlSafe(attach))
            .execute(&mut *transaction)
            .await?;
    }
    // Where a backup was restored this may be a tenant that had messages before.
    sqlx::query(
        "insert into positions (tenant_id, last) select $1, positions_from from fleet on conflict do nothing",
    )
    .bind(tenant.0)
    .execute(&mut *transaction)
    .await?;
    Ok(transaction.commit().await?)
}

/// The SQLSTATE of a statement that took longer than its timeout.
const QUERY_CANCELED: &str = "57014";
/// How often a detach gives way to another that was left half done.
const DETACH_TRIES: u32 = 5;

/// Drops the partition, if it is there.
pub(super) async fn drop(pool: &PgPool, tenant: TenantId) -> Result<(), Error> {
    let table = tenant.partition();
    for _ in 0..DETACH_TRIES {
        finish_detaching(pool).await?;
        let attached: bool =
            sqlx::query_scalar("select exists (select from pg_inherits where inhrelid = to_regclass($1))")
                .bind(&table)
                .fetch_one(pool)
                .await?;
        if !attached {
            sqlx::query(AssertSqlSafe(format!("drop table if exists {table}")))
                .execute(pool)
                .await?;
            return Ok(());
        }
        // Not in a transaction: it commits twice on its own and waits for running writers in between.
        let detach = format!("alter table messages detach partition {table} concurrently");
        match sqlx::query(AssertSqlSafe(detach)).execute(pool).await {
            Ok(_) => {}
            // A transaction that has used `messages` goes on for longer than a caller can wait: the reconciler will.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(QUERY_CANCELED) => break,
            Err(error) => warn!(%tenant, %error, "could not detach the partition"),
        }
    }
    Err(Error::Unavailable(format!(
        "the partition of tenant {tenant} is in use; it is dropped as soon as it is not"
    )))
}

/// Finishes a detach that was interrupted between its two commits. PostgreSQL allows one pending at a time, so it
/// stands in the way of every other.
async fn finish_detaching(pool: &PgPool) -> Result<(), Error> {
    let pending: Option<String> = sqlx::query_scalar(
        "select inhrelid::regclass::text from pg_inherits
         where inhparent = 'messages'::regclass and inhdetachpending",
    )
    .fetch_optional(pool)
    .await?;
    if let Some(table) = pending {
        // The name is PostgreSQL's own, quoted where it has to be. Another control plane may be faster.
        let finish = format!("alter table messages detach partition {table} finalize");
        if let Err(error) = sqlx::query(AssertSqlSafe(finish)).execute(pool).await {
            warn!(table, %error, "could not finish an interrupted detach");
        }
    }
    Ok(())
}
