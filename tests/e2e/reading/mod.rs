//! Reading what is stored: found by time and content, from either end, and followed as it comes.

mod filters;
mod following;
mod streams;

use common::id::TenantId;
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::support::Stack;

/// Rows as a commit leaves them, put in directly: their positions and times are the test's to choose.
async fn put(stack: &Stack, tenant: TenantId, rows: &[(i64, OffsetDateTime, Value)]) {
    let positions: Vec<_> = rows.iter().map(|(position, ..)| *position).collect();
    let times: Vec<_> = rows.iter().map(|(_, time, _)| *time).collect();
    let payloads: Vec<_> = rows.iter().map(|(.., payload)| payload.to_string()).collect();
    let ids: Vec<_> = rows.iter().map(|_| Uuid::now_v7()).collect();
    sqlx::query(
        "with stored as (
             insert into messages (id, tenant_id, payload, created_at, position)
             select row.id, $1, row.payload::jsonb, row.time, row.position
             from unnest($2::uuid[], $3::text[], $4::timestamptz[], $5::bigint[]) as row (id, payload, time, position)
         )
         update positions set last = greatest(last, (select max(position) from unnest($5::bigint[]) as position))
         where tenant_id = $1",
    )
    .bind(tenant.0)
    .bind(ids)
    .bind(payloads)
    .bind(times)
    .bind(positions)
    .execute(stack.pool())
    .await
    .unwrap();
}

/// A tenant whose queue nobody consumes.
async fn paused(stack: &Stack, name: &str) -> TenantId {
    let body = serde_json::json!({ "name": name, "status": "paused" });
    let (status, tenant) = stack.post("/api/tenants", &stack.admin(), &body).await;
    assert_eq!(status, 201, "{tenant}");
    tenant["id"].as_str().unwrap().parse().unwrap()
}

/// The positions of a page, or of lines.
fn positions(messages: &[Value]) -> Vec<i64> {
    let position = |message: &Value| message["position"].as_str().unwrap().parse().unwrap();
    messages.iter().map(position).collect()
}
