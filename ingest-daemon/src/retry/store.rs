//! Which delays there have ever been, for whoever brings back what waits.

use std::time::Duration;

use sqlx::PgPool;

/// The delays, as the fleet's daemons have written them down.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pool: PgPool,
}

impl Store {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Writes `delays` down, and answers which were before and which are now.
    pub(crate) async fn add(&self, delays: &[Duration]) -> sqlx::Result<Vec<Duration>> {
        let delays: Vec<i64> = delays
            .iter()
            .map(|delay| i64::try_from(delay.as_millis()).unwrap_or(i64::MAX))
            .collect();
        let known: Vec<i64> = sqlx::query_scalar(
            "with added as (insert into retry_delays select unnest($1::bigint[]) on conflict do nothing)
             select ms from retry_delays union select unnest($1::bigint[])",
        )
        .bind(delays)
        .fetch_all(&self.pool)
        .await?;
        let known = known.into_iter().filter_map(|ms| u64::try_from(ms).ok());
        Ok(known.map(Duration::from_millis).collect())
    }
}
