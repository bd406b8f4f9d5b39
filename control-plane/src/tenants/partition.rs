//! A tenant's partition: made and dropped without a lock that other tenants' writes would wait for.
//!
//! `create table … partition of` and a plain `detach` lock the whole of `messages`. A table that is made alone and
//! attached, and one that is detached concurrently, do not. Both are safe to begin again after a crash.
//!
//! Both wait for each other, on connections of their own ([`pool`]), and for no longer than a caller can.

use std::time::Duration;

use common::{config, database::Connect, id::TenantId};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, postgres::PgPoolOptions};
use tokio::time::{Instant, sleep};
use tracing::debug;
use uuid::Uuid;

use super::{model::Phase, store};
use crate::error::Error;

/// How many of them go on at once. PostgreSQL lets one at a time change `messages`; the others are on their way there
/// or back.
const AT_ONCE: u32 = 2;
/// How long each waits for one of those.
const ACQUIRE: Duration = Duration::from_secs(8);
/// How long one statement may take, most of it waiting for locks.
const STATEMENT: &str = "3s";
/// How often a change of `messages` that PostgreSQL gave up is tried before the caller hears of it.
const TRIES: u32 = 3;
/// How long a partition's dropping is tried before the caller hears of it, and how soon again.
const DROPPING: Duration = Duration::from_secs(6);
const PAUSE: Duration = Duration::from_millis(200);
/// A transaction that has used `messages` for longer than this may go on for longer than a detach can wait.
const LONG: &str = "1 s";

/// The connections that partitions are made and dropped on, as the role that owns them: those that wait here for a lock
/// are no others'.
pub(crate) fn pool(config: &config::Database, name: &str) -> Result<PgPool, config::Error> {
    let pool = PgPoolOptions::new()
        .max_connections(AT_ONCE)
        .acquire_timeout(ACQUIRE)
        .idle_timeout(Duration::from_secs(60));
    Ok(Connect::new(&config.of_schema(), name)?
        .set("statement_timeout", STATEMENT)
        .pool(pool))
}

/// Those of `tenants` whose partition, or whose position counter, is not there.
pub(super) async fn missing(pool: &PgPool, tenants: &[TenantId]) -> Result<Vec<TenantId>, Error> {
    let missing: Vec<Uuid> = sqlx::query_scalar(
        "select t.id from unnest($1::uuid[]) as t (id)
         where not exists (select from positions where tenant_id = t.id)
            or not exists (select from pg_inherits
                           where inhrelid = to_regclass('messages_' || replace(t.id::text, '-', '')))",
    )
    .bind(tenants.iter().map(|tenant| tenant.0).collect::<Vec<_>>())
    .fetch_all(pool)
    .await?;
    Ok(missing.into_iter().map(TenantId).collect())
}

/// What was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// Nothing: it was there.
    Nothing,
    /// What a new tenant needs.
    New,
    /// What a tenant has lost.
    Again,
}

/// Makes the partition and the position counter of a living tenant, where they are not there.
pub(super) async fn create(pool: &PgPool, tenant: TenantId) -> Result<Made, Error> {
    let mut tries = 1..TRIES;
    loop {
        match try_create(pool, tenant).await {
            Err(Error::Database(error)) if is_busy(&error) && tries.next().is_some() => {
                debug!(%tenant, %error, "could not make a partition; trying again");
            }
            result => return result,
        }
    }
}

async fn try_create(pool: &PgPool, tenant: TenantId) -> Result<Made, Error> {
    let table = tenant.partition();
    let mut transaction = pool.begin().await?;
    // Two control planes may be at the same tenant: the second finds it done. And nobody deletes it meanwhile.
    let phase = store::lock(&mut transaction, tenant).await?;
    let attached = attached(&mut transaction, tenant).await?;
    if attached != Some(true) {
        // Before anything else of `messages` is locked: a concurrent detach holds this lock and waits for all who
        // hold any other, so whoever came here with one would wait for it in a circle.
        sqlx::query("lock table only messages in share update exclusive mode")
            .execute(&mut *transaction)
            .await?;
    }
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
    let counted = sqlx::query(
        "insert into positions (tenant_id, last) select $1, positions_from from fleet on conflict do nothing",
    )
    .bind(tenant.0)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(match phase {
        _ if attached == Some(true) && counted.rows_affected() == 0 => Made::Nothing,
        Phase::Creating => Made::New,
        Phase::Ready | Phase::Deleting | Phase::Gone => Made::Again,
    })
}

/// Whether the table is attached; `None` if there is none.
async fn attached(connection: &mut PgConnection, tenant: TenantId) -> Result<Option<bool>, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (select from pg_inherits where inhrelid = c.oid)
         from pg_class c where c.oid = to_regclass($1)",
    )
    .bind(tenant.partition())
    .fetch_optional(connection)
    .await
}

/// Drops the partition, if it is there.
pub(super) async fn drop(pool: &PgPool, tenant: TenantId) -> Result<(), Error> {
    let deadline = Instant::now() + DROPPING;
    loop {
        match try_drop(pool, tenant).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) if is_busy(&error) || is_overtaken(&error) => {
                debug!(%tenant, %error, "could not drop a partition; trying again")
            }
            Err(error) => return Err(error.into()),
        }
        if Instant::now() > deadline {
            return Err(Error::Unavailable(
                "its partition cannot be taken out of messages while other transactions use that".into(),
            ));
        }
        sleep(PAUSE).await;
    }
}

/// Answers whether it is dropped, or else in use.
async fn try_drop(pool: &PgPool, tenant: TenantId) -> Result<bool, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    if attached(&mut connection, tenant).await? == Some(true) {
        // A detach that waits stands in the way of everybody's creation and deletion: better not begun.
        if is_in_use(&mut connection).await? {
            return Ok(false);
        }
        detach(&mut connection, tenant).await?;
    }
    let drop = format!("drop table if exists {}", tenant.partition());
    sqlx::query(AssertSqlSafe(drop)).execute(&mut *connection).await?;
    Ok(true)
}

/// Whether a transaction that will not end soon has used `messages`: a detach would wait for it. One that was prepared
/// may never end.
async fn is_in_use(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let sql = format!(
        "select exists (
             select from pg_locks l left join pg_stat_activity a on a.pid = l.pid
             where l.locktype = 'relation' and l.relation = 'messages'::regclass and l.granted
                   and l.database = (select oid from pg_database where datname = current_database())
                   -- Who makes or drops a partition has this one, and ends in time.
                   and l.mode <> 'ShareUpdateExclusiveLock'
                   and (l.pid is null or a.xact_start < clock_timestamp() - interval '{LONG}'))"
    );
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await
}

/// Sees to it that a table of which rows are removed now and then is vacuumed before these are more than a tenth of it,
/// whatever the server's own settings. Somebody's settings for the table stay.
pub(crate) async fn tend(pool: &PgPool, tenant: TenantId) -> Result<(), sqlx::Error> {
    let table = tenant.partition();
    let is_plain: Option<bool> = sqlx::query_scalar(
        "select not exists (select from unnest(reloptions) as option where option like 'autovacuum_%')
         from pg_class where oid = to_regclass($1)",
    )
    .bind(&table)
    .fetch_optional(pool)
    .await?;
    if is_plain != Some(true) {
        return Ok(());
    }
    // A lock that commits do not wait for, and neither does this wait for them.
    let settings = ["", "toast."].map(|part| {
        format!("{part}autovacuum_vacuum_scale_factor = 0.1, {part}autovacuum_vacuum_threshold = 1000")
    });
    let alter = format!("alter table {table} set ({})", settings.join(", "));
    sqlx::query(AssertSqlSafe(alter)).execute(pool).await?;
    Ok(())
}

async fn detach(connection: &mut PgConnection, tenant: TenantId) -> Result<(), sqlx::Error> {
    // One that was interrupted between its two commits: PostgreSQL allows one pending at a time, so it stands in the
    // way of every other.
    let pending: Option<String> = sqlx::query_scalar(
        "select inhrelid::regclass::text from pg_inherits
         where inhparent = 'messages'::regclass and inhdetachpending",
    )
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(table) = pending {
        // The name is PostgreSQL's own, quoted where it has to be. Another control plane may be faster.
        let finish = format!("alter table messages detach partition {table} finalize");
        match sqlx::query(AssertSqlSafe(finish)).execute(&mut *connection).await {
            Err(error) if is_busy(&error) => return Err(error),
            Err(error) => debug!(table, %error, "another one finished an interrupted detach"),
            Ok(_) => {}
        }
        if table == tenant.partition() {
            return Ok(());
        }
    }
    // Not in a transaction: it commits twice on its own and waits for running writers in between.
    let detach = format!(
        "alter table messages detach partition {} concurrently",
        tenant.partition()
    );
    sqlx::query(AssertSqlSafe(detach)).execute(connection).await?;
    Ok(())
}

/// Whether another one was faster: it finished what was pending, so that a table is no partition any more, or not there
/// (42P01), or it changed the same rows of the catalog (XX000).
fn is_overtaken(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| matches!(&*code, "42P01" | "XX000"))
}

/// Whether PostgreSQL gave a statement up for what others do at the moment: a deadlock, a lock or a statement that
/// took too long, or a detach that another one has pending (55000).
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| matches!(&*code, "40P01" | "40001" | "55P03" | "57014" | "55000"))
}
