//! Reading: a page is the rows after a position, in its order.

use common::id::TenantId;
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{error::Error, tenants::Tenants};

/// The most payload of a page; one row is answered whatever its size.
const PAGE_BYTES_MAX: i64 = 2 << 20;
/// How many rows PostgreSQL is asked for at once: what it reads beyond the page's bytes is bounded by this.
const CHUNK_ROWS: i64 = 100;

/// A stored message.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Message {
    pub(crate) id: Uuid,
    pub(crate) position: i64,
    /// The JSON's text, as PostgreSQL writes it.
    pub(crate) payload: String,
    pub(crate) created_at: OffsetDateTime,
}

/// Reading.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) pool: PgPool,
    pub(crate) tenants: Tenants,
}

impl Reading {
    /// The messages after `cursor`, `limit` at most and [`PAGE_BYTES_MAX`], one at least if there is one.
    pub(crate) async fn page(
        &self,
        tenant: TenantId,
        cursor: i64,
        limit: i64,
    ) -> Result<Vec<Message>, Error> {
        if cursor < 0 {
            return Err(Error::invalid(
                "cursor",
                format!("is to be the next_cursor of another page, or 0, not {cursor}"),
            ));
        }
        let mut page: Vec<Message> = Vec::new();
        let (mut bytes, mut after) = (0, cursor);
        loop {
            let wanted = CHUNK_ROWS.min(limit - page.len() as i64);
            let rows = self.chunk(tenant, after, wanted, PAGE_BYTES_MAX - bytes).await?;
            let chunk_is_full = rows.len() as i64 == wanted;
            for row in rows {
                let length = row.payload.len() as i64;
                // The chunk always has a first row; the page takes it only when it is the page's first or fits.
                if !page.is_empty() && bytes + length > PAGE_BYTES_MAX {
                    return Ok(page);
                }
                bytes += length;
                after = row.position;
                page.push(row);
            }
            if !chunk_is_full || page.len() as i64 == limit || bytes >= PAGE_BYTES_MAX {
                break;
            }
        }
        if page.is_empty() {
            // Nothing to read, or nobody to read from?
            self.tenants.get(tenant).await?;
        }
        Ok(page)
    }

    /// Up to `rows` rows after a position, cut where their payload exceeds `bytes`; one at least.
    async fn chunk(
        &self,
        tenant: TenantId,
        after: i64,
        rows: i64,
        bytes: i64,
    ) -> Result<Vec<Message>, Error> {
        Ok(sqlx::query_as(
            "select id, position, payload, created_at
             from (
                 select id, position, payload, created_at,
                        sum(octet_length(payload)) over (order by position) - octet_length(payload) as before
                 from (
                     select id, position, payload::text as payload, created_at
                     from messages
                     where tenant_id = $1 and position > $2
                     order by position
                     limit $3
                 ) as rows
             ) as sized
             where before < $4 or before = 0
             order by position",
        )
        .bind(tenant.0)
        .bind(after)
        .bind(rows)
        .bind(bytes)
        .fetch_all(&self.pool)
        .await?)
    }
}
