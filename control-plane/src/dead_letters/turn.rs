//! Turns: one call at a time has a tenant's dead-letter queue, over all control planes.
//!
//! A turn is a transaction's advisory lock in PostgreSQL, which ends with its holder whatever becomes of that. It is
//! there so that a call sees every dead letter, not for safety: should a holder lose it half way (PostgreSQL restarts,
//! say), another call may miss what the first has in its hands, and the broker still gives no letter to both.

use std::{sync::Arc, time::Duration};

use common::id::TenantId;
use sqlx::{PgPool, Postgres, Transaction};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

use super::service::WORK_MAX;
use crate::error::Error;

/// How long a call waits for its turn.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// How often it looks whether the turn is free. Between looks it holds no connection.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How many turns one control plane holds at once, each with a connection of the pool: half of the smallest pool.
const TURNS_MAX: usize = 2;
/// What tells our locks from others: `jdlq`.
const CLASS: i32 = 0x6a64_6c71;
/// How much longer than a call's work a frozen control plane keeps its turn.
const MARGIN: Duration = Duration::from_secs(5);

/// Hands out turns.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    pool: PgPool,
    permits: Arc<Semaphore>,
}

/// A call's turn; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    /// Dropped first: whoever gets the permit finds a connection in the pool.
    _lock: Transaction<'static, Postgres>,
    _permit: OwnedSemaphorePermit,
}

impl Turns {
    pub(super) fn new(pool: PgPool) -> Self {
        Self {
            pool,
            permits: Arc::new(Semaphore::new(TURNS_MAX)),
        }
    }

    /// Waits for the turn, [`WAIT_MAX`] at most.
    pub(super) async fn take(&self, tenant: TenantId) -> Result<Turn, Error> {
        let taken = async {
            loop {
                if let Some(turn) = self.try_take(tenant).await? {
                    return Ok(turn);
                }
                sleep(LOOK_EVERY).await;
            }
        };
        timeout(WAIT_MAX, taken).await.unwrap_or_else(|_| {
            Err(Error::Unavailable(format!(
                "other calls are at work on the dead letters of tenant {tenant}; try again"
            )))
        })
    }

    async fn try_take(&self, tenant: TenantId) -> Result<Option<Turn>, Error> {
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
            return Ok(None); // it is never closed
        };
        let mut lock = self.pool.begin().await?;
        // The pool ends transactions that idle for two seconds; this one idles while RabbitMQ works.
        let idle_ms = (WORK_MAX + MARGIN).as_millis();
        let taken: bool = sqlx::query_scalar(
            "select pg_try_advisory_xact_lock($1, $2)
             from set_config('idle_in_transaction_session_timeout', $3, true)",
        )
        .bind(CLASS)
        .bind(key(tenant))
        .bind(idle_ms.to_string())
        .fetch_one(&mut *lock)
        .await?;
        if !taken {
            lock.rollback().await?;
            return Ok(None);
        }
        Ok(Some(Turn {
            _lock: lock,
            _permit: permit,
        }))
    }
}

/// A tenant in 32 bits. Two tenants that share them merely wait for each other.
fn key(tenant: TenantId) -> i32 {
    let bytes = tenant.0.as_bytes();
    bytes.chunks(4).fold(0, |key, chunk| {
        let word = chunk.iter().fold(0, |word, byte| word << 8 | i32::from(*byte));
        key ^ word
    })
}
