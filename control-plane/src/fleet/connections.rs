//! The fleet's own connections to PostgreSQL: whatever readers and writers do to theirs, daemons keep their leases.

use std::{io, time::Duration};

use common::{config, database};
use sqlx::{PgConnection, PgPool};
use tokio::time::{Instant, timeout_at};

/// For leases alone, which take a millisecond each: one to renew them, one to see who is late.
const LEASES: u32 = 2;
/// For rounds, reports and what streams send; one of them listens.
const ROUNDS: u32 = 3;

/// The pools.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    /// Leases alone: not even the fleet's own work may cost one.
    pub(super) leases: PgPool,
    /// Everything else of the fleet's.
    pub(crate) rounds: PgPool,
}

impl Connections {
    /// How many there are, of those that the program may have.
    pub(crate) const COUNT: u32 = LEASES + ROUNDS;

    pub(crate) fn new(config: &config::Database) -> Result<Self, config::Error> {
        let pool = |max_connections, name| {
            let config = config::Database {
                max_connections,
                ..config.clone()
            };
            database::pool(&config, name)
        };
        Ok(Self {
            leases: pool(LEASES, "jalur control-plane leases")?,
            rounds: pool(ROUNDS, "jalur control-plane fleet")?,
        })
    }

    pub(crate) async fn close(&self) {
        tokio::join!(self.leases.close(), self.rounds.close());
    }
}

/// Does something on a connection of the pool's within `limit`. One that did not answer by then is not used again: the
/// pool would wait for it, however long that is.
pub(super) async fn within<T, E: From<sqlx::Error>>(
    pool: &PgPool,
    limit: Duration,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
) -> Result<T, E> {
    let silent = || {
        let message = format!("PostgreSQL did not answer within {limit:?}");
        sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, message))
    };
    let until = Instant::now() + limit;
    let mut connection = timeout_at(until, pool.acquire()).await.map_err(|_| silent())??;
    let done = timeout_at(until, work(&mut connection)).await;
    done.unwrap_or_else(|_| {
        connection.close_on_drop();
        Err(silent().into())
    })
}
