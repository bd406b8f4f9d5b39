//! The rows of the audit trail.

use common::id::TenantId;
use sqlx::{FromRow, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Event, Journal, Outcome, Target, event::bounded};
use crate::identity::Caller;

/// The table as the place where calls are written down.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(super) pool: PgPool,
}

/// A call as it was written down.
#[derive(Debug, FromRow)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) at: OffsetDateTime,
    pub(crate) request_id: String,
    pub(crate) sub: Option<String>,
    pub(crate) role: Option<String>,
    pub(crate) caller_tenant_id: Option<Uuid>,
    pub(crate) credential: Option<String>,
    pub(crate) address: Option<String>,
    pub(crate) method: String,
    pub(crate) tenant_id: Option<Uuid>,
    pub(crate) summary: String,
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) left_out: i64,
}

#[tonic::async_trait]
impl Journal for Rows {
    async fn begin(&self, event: &Event<'_>) -> Result<i64, sqlx::Error> {
        self.insert(event, None, 0).await
    }

    async fn end(&self, id: i64, target: &Target, outcome: &Outcome) -> Result<(), sqlx::Error> {
        let update = sqlx::query(
            "update audit_events
             set code = $2, message = $3, ended_at = clock_timestamp(), tenant_id = coalesce($4, tenant_id)
             where id = $1",
        );
        update
            .bind(id)
            .bind(outcome.word())
            .bind(said(outcome))
            .bind(target.tenant().map(|tenant| tenant.0))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    async fn refused(&self, event: &Event<'_>, outcome: &Outcome, left_out: u64) -> Result<(), sqlx::Error> {
        let left_out = i64::try_from(left_out).unwrap_or(i64::MAX);
        self.insert(event, Some(outcome), left_out).await?;
        Ok(())
    }
}

impl Rows {
    async fn insert(
        &self,
        event: &Event<'_>,
        outcome: Option<&Outcome>,
        left_out: i64,
    ) -> Result<i64, sqlx::Error> {
        let caller = event.call.caller.as_ref();
        let insert = sqlx::query_scalar(
            "insert into audit_events (request_id, sub, role, caller_tenant_id, address, method, tenant_id, summary,
                                       code, message, ended_at, left_out, credential)
             values ($1, $2, $3, $4, $5, $6, $7, $8,
                     $9, $10, case when $9 is not null then clock_timestamp() end, $11, $12)
             returning id",
        );
        insert
            .bind(event.call.request.as_str())
            .bind(caller.map(|caller| bounded(caller.subject())))
            .bind(caller.map(|caller| caller.role().word()))
            .bind(caller.and_then(Caller::tenant).map(|tenant| tenant.0))
            .bind(event.call.address.map(|address| address.to_string()))
            .bind(event.call.method)
            .bind(event.tenant.map(|tenant| tenant.0))
            .bind(bounded(event.summary))
            .bind(outcome.map(Outcome::word))
            .bind(outcome.and_then(said))
            .bind(left_out)
            .bind(caller.and_then(Caller::credential).map(|id| id.to_string()))
            .fetch_one(&self.pool)
            .await
    }
}

fn said(outcome: &Outcome) -> Option<&str> {
    Some(outcome.message.as_str()).filter(|message| !message.is_empty())
}

/// The newest calls before `cursor`, or of all where it is 0; those to one tenant, if one is named.
pub(crate) async fn page(
    pool: &PgPool,
    cursor: i64,
    limit: i64,
    tenant: Option<TenantId>,
) -> Result<Vec<Row>, sqlx::Error> {
    // Two statements, so that each has the index that it needs.
    let before = if cursor == 0 { i64::MAX } else { cursor };
    let query = match tenant {
        Some(tenant) => sqlx::query_as(
            "select * from audit_events where id < $1 and tenant_id = $3 order by id desc limit $2",
        )
        .bind(before)
        .bind(limit)
        .bind(tenant.0),
        None => sqlx::query_as("select * from audit_events where id < $1 order by id desc limit $2")
            .bind(before)
            .bind(limit),
    };
    query.fetch_all(pool).await
}

/// Removes so many at most that are older than `max_age_seconds`, oldest first. Answers how many.
pub(super) async fn remove(pool: &PgPool, max_age_seconds: f64, limit: i64) -> Result<u64, sqlx::Error> {
    // Control planes that do it at the same time do not wait for one another.
    let delete = sqlx::query(
        "delete from audit_events where id in (
             select id from audit_events where at < now() - make_interval(secs => $1)
             order by at limit $2 for update skip locked)",
    );
    let deleted = delete.bind(max_age_seconds).bind(limit).execute(pool).await?;
    Ok(deleted.rows_affected())
}
