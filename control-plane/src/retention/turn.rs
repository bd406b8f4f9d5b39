//! The turn: one control plane at a time removes.
//!
//! It is a row, and what a step does it does together with taking that row: so two never remove at once, and whoever has
//! lost the turn removes nothing, however late it notices. What is known of tables is known within one turn.

use sqlx::PgConnection;
use uuid::Uuid;

/// How long others leave the turn to a control plane that is not heard of: longer than any step.
pub(super) const LEASE_SECONDS: f64 = 30.0;

/// Tries to take the turn, which somebody else may have; without waiting for them.
pub(super) async fn take(connection: &mut PgConnection) -> sqlx::Result<Option<Uuid>> {
    let holder = Uuid::new_v4();
    let taken = sqlx::query(
        "update retention_turn set holder = $1, until = clock_timestamp() + make_interval(secs => $2)
         where singleton and until < clock_timestamp()",
    )
    .bind(holder)
    .bind(LEASE_SECONDS)
    .execute(connection)
    .await?;
    Ok((taken.rows_affected() > 0).then_some(holder))
}

/// Keeps a turn that was taken, and answers whether nobody else has taken it since.
pub(super) async fn keep(connection: &mut PgConnection, holder: Uuid) -> sqlx::Result<bool> {
    let kept = sqlx::query(
        "update retention_turn set until = clock_timestamp() + make_interval(secs => $2)
         where singleton and holder = $1",
    )
    .bind(holder)
    .bind(LEASE_SECONDS)
    .execute(connection)
    .await?;
    Ok(kept.rows_affected() > 0)
}

/// Lets somebody else have it.
pub(super) async fn give_back(connection: &mut PgConnection, holder: Uuid) -> sqlx::Result<()> {
    sqlx::query(
        "update retention_turn set holder = null, until = '-infinity' where singleton and holder = $1",
    )
    .bind(holder)
    .execute(connection)
    .await?;
    Ok(())
}
