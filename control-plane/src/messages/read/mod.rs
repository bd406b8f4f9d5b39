//! Reading: a page is the rows behind a position, in its order.

mod filling;
mod filter;
mod rows;
mod search;

pub(crate) use self::filter::{Filter, Order};

use std::time::Duration;

use common::{
    config,
    database::{self, Connect},
    id::TenantId,
    shares::Shares,
};
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};
use uuid::Uuid;

use self::filling::Filling;
use crate::{
    error::Error,
    memory::{Account, COPIES},
    tenants::Tenants,
};

/// The most payload of a page; one row is answered whatever its size.
pub(crate) const PAGE_BYTES_MAX: i64 = 2 << 20;

/// How long a reader waits for a table that somebody has locked. Nothing of ours locks one for longer than a moment,
/// and while it waits it has a connection that others could read with.
const LOCK_TIMEOUT: &str = "100ms";
/// What a session is set to that reads for a tenant: the table's policy shows it nothing of others.
const TENANT_SETTING: &str = "jalur.tenant";
/// How long a page waits for others of its tenant.
const SHARE_WAIT: Duration = Duration::from_secs(5);

/// A stored message.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Message {
    pub(crate) id: Uuid,
    pub(crate) position: i64,
    /// The JSON's text, as PostgreSQL writes it.
    pub(crate) payload: String,
    pub(crate) created_at: OffsetDateTime,
}

/// What a page is to be.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// The position behind which to begin; 0 for the start, from whichever end.
    pub(crate) cursor: i64,
    /// The most messages.
    pub(crate) limit: i64,
    /// The most payload in bytes; one message comes whatever its size.
    pub(crate) bytes_max: i64,
    pub(crate) order: Order,
    pub(crate) filter: Filter,
}

impl Ask {
    /// For the messages behind `cursor`, as they were committed.
    pub(crate) fn behind(cursor: i64, limit: i64, bytes_max: i64) -> Self {
        Self {
            cursor,
            limit,
            bytes_max,
            order: Order::Oldest,
            filter: Filter::default(),
        }
    }

    /// Where the first row is looked for behind.
    fn start(&self) -> i64 {
        match (self.order, self.cursor) {
            (Order::Newest, 0) => i64::MAX,
            (_, cursor) => cursor,
        }
    }
}

/// Messages, and how to go on.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) rows: Vec<Message>,
    /// The cursor of the next page.
    pub(crate) next: i64,
    /// Whether nothing was behind this page.
    pub(crate) at_end: bool,
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

    /// The messages that are asked for, one at least if there is one and no filter. They are held on `account`; where
    /// that is full a page ends early.
    pub(crate) async fn page(&self, tenant: TenantId, ask: &Ask, account: &Account) -> Result<Page, Error> {
        if ask.cursor < 0 {
            return Err(Error::invalid(
                "cursor",
                format!(
                    "must be the next_cursor of another page, or 0, got {}",
                    ask.cursor
                ),
            ));
        }
        let _share = self.share(tenant).await?;
        let mut connection = self.pool.acquire().await?;
        let mut filling = Filling::new(ask, account, self.message_bytes_max);
        let page = match ask.filter.is_empty() {
            true => filling.with_all(&mut connection, tenant).await?,
            false => filling.with_matches(&mut connection, tenant).await?,
        };
        drop(connection);
        if page.rows.is_empty() && page.at_end {
            // Nothing to read, or nobody to read from?
            self.tenants.get(tenant).await?;
        }
        Ok(page)
    }

    /// What is new behind a position: at most `limit` messages; none where one of them is too large to be read like that.
    pub(crate) async fn new_behind(
        &self,
        tenant: TenantId,
        behind: i64,
        limit: i64,
    ) -> Result<Option<Vec<Message>>, Error> {
        let _share = self.share(tenant).await?;
        let mut connection = self.pool.acquire().await?;
        Ok(rows::new(&mut connection, tenant, behind, limit).await?)
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
}
