//! What `/readyz` says: whether calls can be answered, and what is waited for where they cannot.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use common::{admin::Readiness, broker::Broker, database::Sessions};
use sqlx::PgPool;

use crate::migrations;

/// `sighted` is whether it is known that the database was not restored from a backup.
pub(crate) fn readiness(
    pool: PgPool,
    sessions: Sessions,
    queues: Broker,
    publishing: Broker,
    sighted: Arc<AtomicBool>,
) -> Readiness {
    Readiness::new(move || {
        let (pool, queues, publishing) = (pool.clone(), queues.clone(), publishing.clone());
        let sessions = sessions.clone();
        let sighted = Arc::clone(&sighted);
        async move {
            if !queues.is_up() || !publishing.is_up() {
                return Err("waiting for RabbitMQ".into());
            }
            sessions.check().await.map_err(|error| error.to_string())?;
            let version = sqlx::query_scalar::<_, Option<i64>>(
                "select max(version) from _sqlx_migrations where success",
            );
            match version.fetch_one(&pool).await {
                Ok(Some(version)) if version >= migrations::newest() => {
                    if sighted.load(Ordering::Relaxed) {
                        Ok(())
                    } else {
                        Err("looking whether the database was restored from a backup".into())
                    }
                }
                Ok(_) => Err("waiting for the schema: run `control-plane migrate up`".into()),
                Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => {
                    Err("waiting for the schema: run `control-plane migrate up`".into())
                }
                Err(error) => Err(format!("waiting for PostgreSQL: {error}")),
            }
        }
    })
}
