//! What operators ask about the daemons.

use std::time::Duration;

use sqlx::{Row as _, postgres::PgRow};
use time::OffsetDateTime;

use super::{Fleet, changes::Topic, handle::Waiting, members};
use crate::error::Error;

/// A daemon that is alive.
#[derive(Clone, Debug)]
pub(crate) struct Daemon {
    pub(crate) id: String,
    pub(crate) draining: bool,
    pub(crate) capacity: u32,
    /// Those it is still to stop included.
    pub(crate) lanes: u32,
    pub(crate) workers: u32,
    pub(crate) joined_at: OffsetDateTime,
}

impl Fleet {
    /// A page of the daemons that are alive, by id, and whether there are more.
    pub(crate) async fn daemons(&self, after: &str, size: usize) -> Result<(Vec<Daemon>, bool), Error> {
        let mut daemons = self.select(after, None, size as i64 + 1).await?;
        let more = daemons.len() > size;
        daemons.truncate(size);
        Ok((daemons, more))
    }

    /// Gives a daemon no lanes any more, and waits until it has none or `limit` is over.
    pub(crate) async fn drain(&self, id: &str, limit: Duration) -> Result<Daemon, Error> {
        self.set_draining(id, true).await?;
        let mut waiting = Waiting::new(self.changes.subscribe(Topic::Lanes), limit);
        loop {
            let daemon = self.daemon(id).await?;
            if daemon.lanes == 0 || !waiting.changed().await {
                return Ok(daemon);
            }
        }
    }

    /// Lets a daemon that was drained have lanes again.
    pub(crate) async fn undrain(&self, id: &str) -> Result<Daemon, Error> {
        self.set_draining(id, false).await?;
        self.daemon(id).await
    }

    async fn set_draining(&self, id: &str, draining: bool) -> Result<(), Error> {
        let mut connection = self.pool.acquire().await?;
        let set = members::set_draining(&mut connection, id, draining).await;
        set.map_err(|error| match error {
            members::Error::Database(error) => error.into(),
            _ => Error::NoDaemon(id.to_owned()),
        })
    }

    /// One that is alive. One that has left is done with whatever it did, too, but cannot be shown any more.
    async fn daemon(&self, id: &str) -> Result<Daemon, Error> {
        let found = self.select("", Some(id), 1).await?.pop();
        found.ok_or_else(|| Error::NoDaemon(id.to_owned()))
    }

    async fn select(&self, after: &str, id: Option<&str>, limit: i64) -> Result<Vec<Daemon>, sqlx::Error> {
        let row = |row: PgRow| {
            let count = |column| {
                row.try_get::<i64, _>(column)
                    .map(|count| u32::try_from(count).unwrap_or(u32::MAX))
            };
            Ok(Daemon {
                id: row.try_get("id")?,
                draining: row.try_get("draining")?,
                capacity: row.try_get::<i32, _>("capacity")?.unsigned_abs(),
                lanes: count("lanes")?,
                workers: count("workers")?,
                joined_at: row.try_get("joined_at")?,
            })
        };
        sqlx::query(
            "select d.id, d.state = 'draining' as draining, d.capacity, d.joined_at,
                    count(a.tenant_id) as lanes, coalesce(sum(a.workers), 0)::bigint as workers
             from daemons d left join assignments a on a.daemon_id = d.id
             where d.state <> 'gone' and d.id > $1 and ($2::text is null or d.id = $2)
             group by d.id
             order by d.id
             limit $3",
        )
        .bind(after)
        .bind(id)
        .bind(limit)
        .try_map(row)
        .fetch_all(&self.pool)
        .await
    }
}
