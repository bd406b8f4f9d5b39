//! Which delays there have ever been, for whoever brings back what waits; and how many of whose messages do.

use std::{collections::BTreeMap, time::Duration};

use common::id::TenantId;
use sqlx::PgPool;
use uuid::Uuid;

use super::waiting::Key;

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

    /// So many more wait. In the order of the keys, so that daemons that add at once do not wait in a circle.
    pub(super) async fn add_waiting(&self, rows: &BTreeMap<Key, i64>) -> sqlx::Result<()> {
        let (mut delays, mut dues, mut tenants) = (Vec::new(), Vec::new(), Vec::<Uuid>::new());
        for (delay, due, TenantId(tenant)) in rows.keys() {
            delays.push(*delay);
            dues.push(*due);
            tenants.push(*tenant);
        }
        let counts: Vec<i64> = rows.values().copied().collect();
        sqlx::query(
            "insert into waiting_retries as known (delay_ms, due_ms, tenant_id, messages)
             select * from unnest($1::bigint[], $2::bigint[], $3::uuid[], $4::bigint[])
             on conflict (delay_ms, due_ms, tenant_id) do update set messages = known.messages + excluded.messages",
        )
        .bind(delays)
        .bind(dues)
        .bind(tenants)
        .bind(counts)
        .execute(&self.pool)
        .await
        .map(drop)
    }

    /// What was due before then waits no more.
    pub(super) async fn sweep(&self, delay_ms: i64, before_ms: i64) -> sqlx::Result<()> {
        sqlx::query("delete from waiting_retries where delay_ms = $1 and due_ms < $2")
            .bind(delay_ms)
            .bind(before_ms)
            .execute(&self.pool)
            .await
            .map(drop)
    }
}
