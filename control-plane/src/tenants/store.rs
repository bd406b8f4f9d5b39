//! The tenants' rows.

use std::num::NonZeroU32;

use common::id::TenantId;
use sqlx::{FromRow, PgConnection, PgExecutor, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    filter::{Filter, sought},
    model::{NewTenant, PageToken, Phase, Tenant, Update},
};
use crate::{
    error::Error,
    fleet::Consumer,
    problems::{Kind, Problem},
};

/// A little longer than queues are declared for.
const HOLD_TIMEOUT: &str = "6s";
const NAME_TAKEN: &str = "tenants_name";

/// Makes the row of a new tenant, or finds the one that an earlier try with the same id and content made.
/// There are `max` tenants at most, those that are being deleted among them.
pub(super) async fn insert(pool: &PgPool, new: &NewTenant, max: Option<NonZeroU32>) -> Result<Tenant, Error> {
    let content = &new.content;
    let created_with =
        serde_json::to_string(content).map_err(|error| Error::Unavailable(error.to_string()))?;
    let mut transaction = pool.begin().await?;
    if let Some(max) = max {
        make_sure_of_room(&mut transaction, new.id, max).await?;
    }
    let inserted = sqlx::query_as::<_, Tenant>(
        "insert into tenants (id, name, description, status, phase, workers, created_with, name_sought)
         values ($1, $2, $3, $4, 'creating', $5, $6::jsonb, $7)
         on conflict (id) do nothing
         returning *",
    )
    .bind(new.id.0)
    .bind(&content.name)
    .bind(&content.description)
    .bind(content.status)
    .bind(new.workers)
    .bind(&created_with)
    .bind(sought(&content.name))
    .fetch_optional(&mut *transaction)
    .await
    .map_err(|error| name_taken(error, &content.name))?;
    transaction.commit().await?;
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

/// Fails where there are as many as there may be, and the one that is to be made is none of them. Whoever counts after us
/// waits until ours is there.
async fn make_sure_of_room(
    connection: &mut PgConnection,
    id: TenantId,
    max: NonZeroU32,
) -> Result<(), Error> {
    sqlx::query("select pg_advisory_xact_lock(hashtext('jalur.tenants'))")
        .execute(&mut *connection)
        .await?;
    let (others, known): (i64, bool) = sqlx::query_as(
        "select count(*) filter (where id <> $1), count(*) filter (where id = $1) > 0
         from tenants where phase <> 'gone'",
    )
    .bind(id.0)
    .fetch_one(connection)
    .await?;
    match known || others < i64::from(max.get()) {
        true => Ok(()),
        false => Err(Error::Precondition(format!(
            "there are {others} tenants, and limits.tenants allows no more; delete one, or have the limit raised"
        ))),
    }
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

/// A tenant of a list, with what PostgreSQL knows of what runs for it.
#[derive(Debug, FromRow)]
pub(super) struct Listed {
    #[sqlx(flatten)]
    pub(super) tenant: Tenant,
    daemons: Vec<String>,
    lane_workers: Vec<i32>,
    busy: Vec<i32>,
    kind: Option<Kind>,
    detail: Option<String>,
    since: Option<OffsetDateTime>,
}

impl Listed {
    /// The tenant, its consumers and its problem.
    pub(super) fn into_parts(self) -> (Tenant, Vec<Consumer>, Option<Problem>) {
        let problem = match (self.kind, self.detail, self.since) {
            (Some(kind), Some(detail), Some(since)) => Some(Problem { kind, detail, since }),
            _ => None,
        };
        let workers = self.lane_workers.into_iter().zip(self.busy);
        let consumers = self.daemons.into_iter().zip(workers);
        let consumers = consumers.map(|(daemon, (workers, busy))| Consumer {
            daemon,
            workers: workers.unsigned_abs(),
            busy: busy.unsigned_abs(),
        });
        (self.tenant, consumers.collect(), problem)
    }
}

/// A page of living tenants in order of creation, with what runs for them.
pub(super) async fn list(
    pool: &PgPool,
    filter: &Filter,
    after: Option<PageToken>,
    limit: i64,
) -> Result<Vec<Listed>, Error> {
    let (created_at, id) = after.map(|token| (token.created_at, token.id)).unzip();
    // What runs is looked up for all of the page at once: for each tenant apart it is a thousand times through the
    // problems. Of several problems the oldest, as for one tenant.
    Ok(sqlx::query_as(
        "with page as materialized (
             select * from tenants
             where phase in ('creating', 'ready') and ($1::timestamptz is null or (created_at, id) > ($1, $2))
                   and ($4::text is null or coalesce(name_sought, lower(name)) like $4)
                   and ($5::text is null or phase = 'ready' and status = $5)
             order by created_at, id
             limit $3
         ), lanes as (
             select a.tenant_id, array_agg(a.daemon_id order by a.daemon_id) as daemons,
                    array_agg(a.observed_workers order by a.daemon_id) as lane_workers,
                    array_agg(a.observed_busy order by a.daemon_id) as busy
             from assignments a join daemons d on d.id = a.daemon_id
             where a.tenant_id in (select id from page) and a.observed_state = 'running' and d.state <> 'gone'
             group by a.tenant_id
         ), oldest as (
             select distinct on (tenant_id) tenant_id, kind, detail, since
             from problems where tenant_id in (select id from page)
             order by tenant_id, since, kind
         )
         select page.*, coalesce(daemons, '{}') as daemons, coalesce(lane_workers, '{}') as lane_workers,
                coalesce(busy, '{}') as busy, kind, detail, since
         from page left join lanes on lanes.tenant_id = page.id left join oldest on oldest.tenant_id = page.id
         order by page.created_at, page.id",
    )
    .bind(created_at)
    .bind(id)
    .bind(limit)
    .bind(&filter.name)
    .bind(filter.status)
    .fetch_all(pool)
    .await?)
}

/// Changes what is set in `update`.
pub(super) async fn update(pool: &PgPool, id: TenantId, update: &Update) -> Result<Tenant, Error> {
    sqlx::query_as(
        "update tenants
         set name = coalesce($2, name), description = coalesce($3, description), status = coalesce($4, status),
             name_sought = coalesce($5, name_sought), updated_at = now()
         where id = $1 and phase in ('creating', 'ready')
         returning *",
    )
    .bind(id.0)
    .bind(&update.name)
    .bind(&update.description)
    .bind(update.status)
    .bind(update.name.as_deref().map(sought))
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

/// Takes a tenant's lock until the transaction ends, if the tenant lives, and answers how far it has come: what is made
/// of it meanwhile is not deleted, and so not left behind.
pub(super) async fn lock(connection: &mut PgConnection, id: TenantId) -> Result<Phase, Error> {
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('tenant ' || $1::uuid, 0))")
        .bind(id.0)
        .execute(&mut *connection)
        .await?;
    sqlx::query_scalar("select phase from tenants where id = $1 and phase in ('creating', 'ready')")
        .bind(id.0)
        .fetch_optional(connection)
        .await?
        .ok_or(Error::NoTenant(id))
}

/// The same for many, shared with others who make what is missing, and answers which of them live. The transaction may
/// then wait for the broker, for longer than one that has stopped half way.
pub(super) async fn hold(
    connection: &mut PgConnection,
    tenants: &[TenantId],
) -> Result<Vec<TenantId>, Error> {
    let ids: Vec<_> = tenants.iter().map(|tenant| tenant.0).collect();
    sqlx::query("select set_config('idle_in_transaction_session_timeout', $1, true)")
        .bind(HOLD_TIMEOUT)
        .execute(&mut *connection)
        .await?;
    // Before the look, whose snapshot is to be of after the wait. Who has another's lock waits for none of these.
    sqlx::query("select pg_advisory_xact_lock_shared(hashtextextended('tenant ' || id, 0)) from unnest($1::uuid[]) as t (id)")
        .bind(&ids)
        .execute(&mut *connection)
        .await?;
    let living: Vec<Uuid> =
        sqlx::query_scalar("select id from tenants where id = any($1) and phase in ('creating', 'ready')")
            .bind(&ids)
            .fetch_all(connection)
            .await?;
    Ok(living.into_iter().map(TenantId).collect())
}

/// Ready tenants after this one, by id.
pub(super) async fn ready_after(pool: &PgPool, after: Uuid, limit: i64) -> Result<Vec<TenantId>, Error> {
    let ids: Vec<Uuid> =
        sqlx::query_scalar("select id from tenants where phase = 'ready' and id > $1 order by id limit $2")
            .bind(after)
            .bind(limit)
            .fetch_all(pool)
            .await?;
    Ok(ids.into_iter().map(TenantId).collect())
}

/// From living to `deleting`, once nobody makes anything of it.
pub(super) async fn set_deleting(pool: &PgPool, id: TenantId) -> Result<(), Error> {
    let mut transaction = pool.begin().await?;
    lock(&mut transaction, id).await?;
    let changed = sqlx::query(
        "update tenants set phase = 'deleting', updated_at = now()
         where id = $1 and phase in ('creating', 'ready')",
    )
    .bind(id.0)
    .execute(&mut *transaction)
    .await?;
    // Their logins go as those of revoked ones do.
    sqlx::query("update credentials set revoked_at = now() where tenant_id = $1 and revoked_at is null")
        .bind(id.0)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    if changed.rows_affected() == 0 {
        Err(Error::NoTenant(id))
    } else {
        Ok(())
    }
}

/// From `deleting` to `gone`: only the row, and so the id, stays. What people called it, and wrote of it, does not.
pub(super) async fn set_gone(connection: impl PgExecutor<'_>, id: TenantId) -> Result<(), Error> {
    sqlx::query(
        "with counters as (delete from positions where tenant_id = $1),
              lanes as (delete from assignments where tenant_id = $1),
              troubles as (delete from problems where tenant_id = $1),
              sizes as (delete from message_sizes where tenant_id = $1),
              clients as (delete from credentials where tenant_id = $1 and login is null)
         update tenants
         set phase = 'gone', name = 'gone', name_sought = null, description = '', created_with = '{}', updated_at = now()
         where id = $1 and phase = 'deleting'",
    )
    .bind(id.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// Tenants that something has been done to, and has not been finished for a while: what crashes leave behind. Those
/// after this one, by id.
pub(super) async fn unfinished(
    pool: &PgPool,
    idle_seconds: f64,
    after: Uuid,
    limit: i64,
) -> Result<Vec<Tenant>, Error> {
    Ok(sqlx::query_as(
        "select * from tenants
         where phase in ('creating', 'deleting') and updated_at < now() - make_interval(secs => $1) and id > $2
         order by id
         limit $3",
    )
    .bind(idle_seconds)
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await?)
}
