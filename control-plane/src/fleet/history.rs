//! Which history revisions and positions belong to. A database that was restored from a backup has given out some
//! that it knows nothing of: then all begin anew, beyond whatever those may have been.

use sqlx::{Connection as _, PgConnection};
use tracing::warn;
use uuid::Uuid;

use super::changes::{Topic, notify};

/// How far revisions and positions move: what 100,000 messages a second come to in four months. A bigint holds nine
/// million such moves, and a number of JavaScript's nine thousand.
const BEYOND: i64 = 1_000_000_000_000;

/// Whether this is the copy of the data that revisions and positions belong to, as far as that can be known.
pub(super) async fn is_known(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    // Nothing is found where nothing can be written either.
    sqlx::query_scalar(
        "select history is not distinct from coalesce(jalur_history(tableoid), history) from fleet",
    )
    .fetch_one(connection)
    .await
}

/// Looks whether this is the copy of the data that it was, and begins a new history if it is not.
pub(super) async fn check(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let (epoch, known, found): (Uuid, Option<String>, Option<String>) =
        sqlx::query_as("select epoch, history, jalur_history(tableoid) from fleet for update")
            .fetch_one(&mut *transaction)
            .await?;
    match (known, found) {
        (Some(known), Some(found)) if known != found => {
            warn!(
                known,
                found,
                "the database was restored from a backup, or a standby has taken over: a new epoch begins"
            );
            begin(&mut transaction, epoch).await?;
        }
        (None, Some(_)) => {
            sqlx::query("update fleet set history = jalur_history(tableoid)")
                .execute(&mut *transaction)
                .await?;
        }
        _ => {}
    }
    transaction.commit().await
}

/// A daemon runs what this database has not assigned yet, so it was restored from a backup that kept its identity.
/// Nothing, if a new history has begun since.
pub(super) async fn begin_after(connection: &mut PgConnection, epoch: Uuid) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    if begin(&mut transaction, epoch).await? {
        warn!("a daemon has seen revisions that the database has not: a new epoch begins");
    }
    transaction.commit().await
}

/// Begins the history after `epoch`'s, and answers whether it did. The fleet's row is locked first, as by every round.
async fn begin(connection: &mut PgConnection, epoch: Uuid) -> Result<bool, sqlx::Error> {
    let begun = sqlx::query(
        "update fleet set epoch = gen_random_uuid(), revision = revision + $2, positions_from = positions_from + $2,
                          history = jalur_history(tableoid)
         where epoch = $1",
    )
    .bind(epoch)
    .bind(BEYOND)
    .execute(&mut *connection)
    .await?;
    if begun.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query("update positions set last = last + $1")
        .bind(BEYOND)
        .execute(&mut *connection)
        .await?;
    sqlx::query("select from assignments order by tenant_id, daemon_id for update")
        .execute(&mut *connection)
        .await?;
    // What daemons report of revisions that are lost is not what they are to run now.
    sqlx::query(
        "update assignments set revision = fleet.revision, observed_revision = 0, observed_state = 'stopped' from fleet",
    )
    .execute(&mut *connection)
    .await?;
    notify(&mut *connection, Topic::Demand).await?;
    notify(connection, Topic::Assignments).await?;
    Ok(true)
}
