//! Turns: what one control plane at a time does for all of them.
//!
//! A turn is a row, and ends by itself unless who has it takes it again. What must not be done by two at once is done together
//! with taking the row, in one statement: so whoever has lost the turn does nothing, however late it notices. An advisory lock
//! would be its connection's, and connections have to be replaced.

use std::time::Duration;

use sqlx::PgExecutor;
use uuid::Uuid;

/// What there is a turn for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Turn {
    /// Telling the whole system's metrics.
    Overview,
    /// Removing what tenants' retention says.
    Retention,
}

impl Turn {
    /// Its row's name.
    pub(crate) const fn what(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Retention => "retention",
        }
    }

    /// Takes the turn for `lease`, or keeps it, unless somebody else has it; nobody is waited for.
    pub(crate) async fn take(
        self,
        executor: impl PgExecutor<'_>,
        holder: Uuid,
        lease: Duration,
    ) -> sqlx::Result<bool> {
        let taken = sqlx::query(
            "update turns set holder = $2, until = clock_timestamp() + make_interval(secs => $3)
             where what = $1 and (holder = $2 or until < clock_timestamp())",
        );
        let taken = taken.bind(self.what()).bind(holder).bind(lease.as_secs_f64());
        Ok(taken.execute(executor).await?.rows_affected() > 0)
    }

    /// Keeps a turn that was taken, and answers whether nobody else has had it since.
    pub(crate) async fn keep(
        self,
        executor: impl PgExecutor<'_>,
        holder: Uuid,
        lease: Duration,
    ) -> sqlx::Result<bool> {
        let kept = sqlx::query(
            "update turns set until = clock_timestamp() + make_interval(secs => $3) where what = $1 and holder = $2",
        );
        let kept = kept.bind(self.what()).bind(holder).bind(lease.as_secs_f64());
        Ok(kept.execute(executor).await?.rows_affected() > 0)
    }

    /// Lets the next one have it at once.
    pub(crate) async fn give_back(self, executor: impl PgExecutor<'_>, holder: Uuid) -> sqlx::Result<()> {
        sqlx::query("update turns set holder = null, until = '-infinity' where what = $1 and holder = $2")
            .bind(self.what())
            .bind(holder)
            .execute(executor)
            .await
            .map(drop)
    }
}
