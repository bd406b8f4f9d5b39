//! Reading: a page is the rows after a position, in its order.

use std::time::Duration;

use common::{
    config,
    database::{self, Connect},
    id::TenantId,
    shares::Shares,
};
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};
use uuid::Uuid;

use crate::{
    error::Error,
    memory::{Account, COPIES},
    tenants::Tenants,
};

/// The most payload of a page; one row is answered whatever its size.
const PAGE_BYTES_MAX: i64 = 2 << 20;
/// How many rows are asked for before it is known how large they are. Most pages are no longer.
const FIRST_ROWS: i64 = 100;
/// By how much the next rows may be more: some small ones say little about the large ones behind them.
const GROWTH: i64 = 4;

/// How long a reader waits for a table that somebody has locked. Nothing of ours locks one for longer than a moment,
/// and while it waits it has a connection that others could read with.
const LOCK_TIMEOUT: &str = "100ms";
/// What a session is set to that reads for a tenant: the table's policy shows it nothing of others.
const TENANT_SETTING: &str = "jalur.tenant";
/// How long a page waits for others of its tenant.
const SHARE_WAIT: Duration = Duration::from_secs(5);

/// A stored message.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Message {
    pub(crate) id: Uuid,
    pub(crate) position: i64,
    /// The JSON's text, as PostgreSQL writes it.
    pub(crate) payload: String,
    pub(crate) created_at: OffsetDateTime,
}

/// Rows that were read together.
struct Chunk {
    rows: Vec<Message>,
    /// Whether no others were there.
    all: bool,
}

/// Reading. It has connections of its own, and one tenant half of them at most: a table that is locked or slow is
/// waited for by its own readers.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pool: PgPool,
    shares: Shares<TenantId>,
    tenants: Tenants,
    /// The largest message there is, in bytes.
    message_bytes_max: usize,
}

impl Reading {
    /// Reads messages of so many bytes at most, over so many connections.
    pub(crate) fn new(
        config: &config::Database,
        connections: u32,
        tenants: Tenants,
        message_bytes_max: usize,
    ) -> Result<Self, config::Error> {
        let pool = Connect::new(config, "jalur control-plane reading")?
            .set("lock_timeout", LOCK_TIMEOUT)
            // Nobody's, until it is said whose.
            .set(TENANT_SETTING, &Uuid::nil().to_string())
            .pool(database::connections(connections));
        Ok(Self {
            pool,
            shares: Shares::new((connections / 2).max(1) as usize),
            tenants,
            message_bytes_max,
        })
    }

    /// The messages after `cursor`, `limit` at most and [`PAGE_BYTES_MAX`], one at least if there is one. They are held
    /// on `account`; where that is full a page ends early.
    pub(crate) async fn page(
        &self,
        tenant: TenantId,
        cursor: i64,
        limit: i64,
        account: &Account,
    ) -> Result<Vec<Message>, Error> {
        if cursor < 0 {
            return Err(Error::invalid(
                "cursor",
                format!("is to be the next_cursor of another page, or 0, not {cursor}"),
            ));
        }
        let _share = self.share(tenant).await?;
        let mut connection = self.pool.acquire().await?;
        let mut page: Vec<Message> = Vec::new();
        let (mut bytes, mut after) = (0, cursor);
        let mut wanted = FIRST_ROWS.min(limit);
        loop {
            let chunk = self.chunk(&mut connection, tenant, after, wanted, PAGE_BYTES_MAX - bytes);
            let Chunk { rows, all } = chunk.await?;
            for row in rows {
                let length = row.payload.len() as i64;
                // The chunk always has a first row; the page takes it only when it is the page's first or fits.
                if !page.is_empty() && bytes + length > PAGE_BYTES_MAX {
                    return Ok(page);
                }
                match account.hold(row.payload.len() * COPIES) {
                    Ok(()) => {}
                    Err(full) if page.is_empty() => return Err(full.into()),
                    Err(_) => return Ok(page),
                }
                bytes += length;
                after = row.position;
                page.push(row);
            }
            let read = page.len() as i64;
            if all || read == limit || bytes >= PAGE_BYTES_MAX {
                break;
            }
            let fit = (PAGE_BYTES_MAX - bytes) * read / bytes.max(1) + 1;
            wanted = fit.min(wanted * GROWTH).min(limit - read);
        }
        drop(connection);
        if page.is_empty() {
            // Nothing to read, or nobody to read from?
            self.tenants.get(tenant).await?;
        }
        Ok(page)
    }

    /// The message with this id. It is held on `account`.
    pub(crate) async fn message(
        &self,
        tenant: TenantId,
        id: Uuid,
        account: &Account,
    ) -> Result<Message, Error> {
        let _share = self.share(tenant).await?;
        let mut connection = self.pool.acquire().await?;
        // Whose it is the session is told as it is for a page.
        let found = sqlx::query_as(
            "select found.id, position, payload, created_at
             from (select set_config($3, $1::text, false) as is offset 0) as told,
                  lateral (
                      select id, position, payload::text as payload, created_at
                      from messages
                      where tenant_id = $1 and id = $2 and told.is <> ''
                  ) as found",
        )
        .bind(tenant.0)
        .bind(id)
        .bind(TENANT_SETTING)
        .fetch_optional(&mut *connection)
        .await?;
        drop(connection);
        let Some(message) = found else {
            // Is it not there, or is nobody whose it could be?
            self.tenants.get(tenant).await?;
            return Err(Error::NoMessage(id));
        };
        let message: Message = message;
        account.hold(message.payload.len() * COPIES)?;
        Ok(message)
    }

    /// A turn among the tenant's readers.
    async fn share(&self, tenant: TenantId) -> Result<Option<OwnedSemaphorePermit>, Error> {
        let share = timeout(SHARE_WAIT, self.shares.take(&tenant)).await;
        share.map_err(|_| {
            Error::Unavailable(format!(
                "others read the messages of tenant {tenant} and are not answered yet; try again"
            ))
        })
    }

    /// Up to `rows` rows after a position, cut where their payload exceeds `bytes`; one at least.
    ///
    /// Which are made into text is decided by what is stored, since a text is as large as the limit allows however
    /// little is stored of it: four times what is stored as it is, sixteen times what is compressed. So PostgreSQL
    /// makes a few megabytes at most of text that is not sent.
    ///
    /// Whose page it is the session is told in the same statement, which saves a round trip: the rows are looked for in a
    /// subquery that needs the answer, and so not before. Should that order ever change, the policy shows nothing.
    async fn chunk(
        &self,
        connection: &mut PgConnection,
        tenant: TenantId,
        after: i64,
        rows: i64,
        bytes: i64,
    ) -> Result<Chunk, Error> {
        // `offset 0` keeps the text from being made once for each place that it is used at.
        type Row = (Uuid, i64, String, OffsetDateTime, i64);
        let found: Vec<Row> = sqlx::query_as(
            "select id, position, payload, created_at, estimated
             from (
                 select id, position, payload, created_at, estimated,
                        sum(octet_length(payload)) over before_and_itself - octet_length(payload) as before
                 from (
                     select id, position, payload::text as payload, created_at, estimated
                     from (
                         select id, position, payload, created_at, estimate,
                                sum(estimate) over before_and_itself as estimated
                         from (
                             select id, position, payload, created_at,
                                    least($5, least($5, pg_column_size(payload))
                                              * case when pg_column_compression(payload) is null
                                                     then 4 else 16 end) as estimate
                             from (select set_config($7, $1::text, false) as is offset 0) as told,
                                  lateral (
                                      select id, position, payload, created_at
                                      from messages
                                      where tenant_id = $1 and position > $2 and told.is <> ''
                                      order by position
                                      limit $3
                                  ) as found
                         ) as stored
                         window before_and_itself as (order by position rows unbounded preceding)
                     ) as estimated
                     where estimated - estimate < $4
                     offset 0
                 ) as texts
                 window before_and_itself as (order by position rows unbounded preceding)
             ) as sized
             where before < $6
             order by position",
        )
        .bind(tenant.0)
        .bind(after)
        .bind(rows)
        .bind(PAGE_BYTES_MAX)
        .bind(i32::try_from(self.message_bytes_max).unwrap_or(i32::MAX / 16))
        .bind(bytes)
        .bind(TENANT_SETTING)
        .fetch_all(connection)
        .await?;
        let texts: i64 = found.iter().map(|(_, _, payload, ..)| payload.len() as i64).sum();
        let estimated = found.last().map_or(0, |(.., estimated)| *estimated);
        let all = (found.len() as i64) < rows && estimated < PAGE_BYTES_MAX && texts < bytes;
        let message = |(id, position, payload, created_at, _): Row| Message {
            id,
            position,
            payload,
            created_at,
        };
        Ok(Chunk {
            rows: found.into_iter().map(message).collect(),
            all,
        })
    }
}
