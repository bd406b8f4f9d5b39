//! AuditService.

use proto::v1::{self, audit_service_server::AuditService};
use sqlx::PgPool;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{page_size, timestamp};
use crate::{
    audit::{self, Row},
    error::Error,
    tenants::model::parse_id,
};

/// AuditService on the table.
#[derive(Clone, Debug)]
pub(crate) struct AuditApi {
    pub(crate) pool: PgPool,
}

#[tonic::async_trait]
impl AuditService for AuditApi {
    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        let request = request.get_ref();
        let limit = page_size("limit", request.limit)?;
        let cursor = request.cursor;
        if cursor < 0 {
            return Err(Error::invalid("cursor", "must be the next_cursor of a page, or 0").into());
        }
        let tenant = match request.tenant_id.as_str() {
            "" => None,
            id => Some(parse_id("tenant_id", id)?),
        };
        let rows = audit::page(&self.pool, cursor, limit as i64, tenant).await;
        let rows = rows.map_err(Error::from)?;
        let next_cursor = rows.last().map_or(cursor, |last| last.id);
        Ok(Response::new(v1::ListEventsResponse {
            data: rows.into_iter().map(event).collect(),
            next_cursor,
        }))
    }
}

fn event(row: Row) -> v1::AuditEvent {
    let id = |id: Uuid| id.to_string();
    v1::AuditEvent {
        position: row.id,
        at: Some(timestamp(row.at)),
        request_id: row.request_id,
        sub: row.sub,
        role: row.role,
        caller_tenant_id: row.caller_tenant_id.map(id),
        credential: row.credential,
        address: row.address,
        method: row.method,
        tenant_id: row.tenant_id.map(id),
        summary: row.summary,
        code: row.code,
        message: row.message,
        left_out: row.left_out,
    }
}
