//! The rows of problems.

use common::id::TenantId;
use sqlx::{PgConnection, PgExecutor, Row as _};
use time::OffsetDateTime;
use tracing::{info, warn};
use uuid::Uuid;

use super::{Kind, Problem, bounded};

/// A tenant's problem. Of several the oldest: what began later is often its consequence.
pub(crate) async fn of(
    executor: impl PgExecutor<'_>,
    tenant: TenantId,
) -> Result<Option<Problem>, sqlx::Error> {
    sqlx::query_as(
        "select kind, detail, since from problems where tenant_id = $1 order by since, kind limit 1",
    )
    .bind(tenant.0)
    .fetch_optional(executor)
    .await
}

/// How many tenants have a problem of each kind.
pub(crate) async fn counts(executor: impl PgExecutor<'_>) -> Result<Vec<(Kind, i64)>, sqlx::Error> {
    sqlx::query_as("select kind, count(distinct tenant_id) from problems group by kind")
        .fetch_all(executor)
        .await
}

/// A control plane has found something wrong. Since when stays, however often it is found.
pub(crate) async fn begin(
    executor: impl PgExecutor<'_>,
    tenant: TenantId,
    kind: Kind,
    detail: &str,
) -> Result<(), sqlx::Error> {
    let detail = bounded(detail);
    // Nothing is written where the same was found before, and nothing of a tenant that is gone meanwhile.
    let new: Option<bool> = sqlx::query_scalar(
        "insert into problems as p (tenant_id, kind, detail, since)
         select id, $2, $3, now() from tenants where id = $1 and phase in ('creating', 'ready') for key share
         on conflict (tenant_id, kind) where daemon_id is null do update set detail = excluded.detail
             where p.detail <> excluded.detail
         returning xmax = 0",
    )
    .bind(tenant.0)
    .bind(kind)
    .bind(&detail)
    .fetch_optional(executor)
    .await?;
    if new == Some(true) {
        warn!(%tenant, kind = kind.word(), detail, "a tenant has a problem");
    }
    Ok(())
}

/// What a control plane may have found of these tenants is over.
pub(crate) async fn end(
    executor: impl PgExecutor<'_>,
    tenants: &[TenantId],
    kind: Kind,
) -> Result<(), sqlx::Error> {
    let ended: Vec<Uuid> = sqlx::query_scalar(
        "delete from problems where tenant_id = any($1) and daemon_id is null and kind = $2 returning tenant_id",
    )
    .bind(tenants.iter().map(|tenant| tenant.0).collect::<Vec<_>>())
    .bind(kind)
    .fetch_all(executor)
    .await?;
    for tenant in ended {
        info!(%tenant, kind = kind.word(), "a tenant's problem is over");
    }
    Ok(())
}

/// A daemon reports its lanes, each with its problem or with none. One transaction with the lanes' other reports,
/// and after them: a problem belongs to a lane.
pub(crate) async fn report(
    connection: &mut PgConnection,
    daemon: &str,
    lanes: &[(TenantId, Option<Problem>)],
) -> Result<(), sqlx::Error> {
    let well = lanes.iter().filter(|(_, problem)| problem.is_none());
    let ended = sqlx::query(
        "delete from problems where daemon_id = $1 and tenant_id = any($2) returning tenant_id, kind",
    )
    .bind(daemon)
    .bind(well.map(|(tenant, _)| tenant.0).collect::<Vec<_>>())
    .fetch_all(&mut *connection)
    .await?;
    for row in ended {
        let (tenant, kind): (Uuid, Kind) = (row.try_get("tenant_id")?, row.try_get("kind")?);
        info!(%tenant, daemon, kind = kind.word(), "a tenant's problem is over");
    }
    let problems: Vec<_> = lanes
        .iter()
        .filter_map(|(tenant, problem)| Some((tenant, problem.as_ref()?)))
        .collect();
    if problems.is_empty() {
        return Ok(());
    }
    // A lane that no row names any more has been taken from the daemon.
    let begun = sqlx::query(
        "insert into problems as p (tenant_id, daemon_id, kind, detail, since)
         select o.tenant_id, a.daemon_id, o.kind, o.detail, o.since
         from unnest($2::uuid[], $3::text[], $4::text[], $5::timestamptz[]) as o (tenant_id, kind, detail, since)
              join assignments a on a.daemon_id = $1 and a.tenant_id = o.tenant_id
         for key share of a
         on conflict (tenant_id, daemon_id) where daemon_id is not null do update
             set kind = excluded.kind, detail = excluded.detail, since = excluded.since
             where (p.kind, p.detail, p.since) is distinct from (excluded.kind, excluded.detail, excluded.since)
         returning p.tenant_id, p.kind, p.detail, xmax = 0 as new",
    )
    .bind(daemon)
    .bind(problems.iter().map(|(tenant, _)| tenant.0).collect::<Vec<_>>())
    .bind(problems.iter().map(|(_, problem)| problem.kind.word()).collect::<Vec<_>>())
    .bind(problems.iter().map(|(_, problem)| problem.detail.as_str()).collect::<Vec<_>>())
    .bind(problems.iter().map(|(_, problem)| problem.since).collect::<Vec<OffsetDateTime>>())
    .fetch_all(connection)
    .await?;
    for row in begun {
        if row.try_get("new")? {
            let (tenant, kind): (Uuid, Kind) = (row.try_get("tenant_id")?, row.try_get("kind")?);
            let detail: String = row.try_get("detail")?;
            warn!(%tenant, daemon, kind = kind.word(), detail, "a tenant has a problem");
        }
    }
    Ok(())
}

/// What was reported by the process that had a daemon's id before says nothing of the next.
pub(crate) async fn forget(connection: &mut PgConnection, daemon: &str) -> Result<(), sqlx::Error> {
    sqlx::query("delete from problems where daemon_id = $1")
        .bind(daemon)
        .execute(connection)
        .await
        .map(drop)
}
