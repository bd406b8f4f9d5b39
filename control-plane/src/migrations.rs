//! The schema's versions: `migrations/` of the repository, built in.

use std::{collections::HashSet, fmt};

use common::{config, database::Connect};
use sqlx::{
    PgPool,
    migrate::{Migrate as _, MigrateError, Migrator},
    postgres::PgPoolOptions,
};

static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// One migration.
#[derive(Clone, Debug)]
pub struct Status {
    /// Its number.
    pub version: i64,
    /// What it is about.
    pub description: String,
    /// Whether the database has it.
    pub applied: bool,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let applied = if self.applied { "applied" } else { "pending" };
        write!(f, "{} {applied} {}", self.version, self.description)
    }
}

/// A pool of the role that owns the tables, without the statement timeout of the programs: a migration may take its time.
pub fn pool(config: &config::Database) -> Result<PgPool, config::Error> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(std::time::Duration::from_secs(10));
    Ok(Connect::bare(&config.of_schema(), "jalur migrate")?.pool(pool))
}

/// Applies every migration that is missing. Several programs may do so at once: they take turns.
pub async fn up(pool: &PgPool) -> Result<(), MigrateError> {
    MIGRATOR.run(pool).await
}

/// Takes back the newest `steps` migrations.
pub async fn down(pool: &PgPool, steps: usize) -> Result<(), MigrateError> {
    let applied: Vec<_> = status(pool)
        .await?
        .into_iter()
        .filter(|migration| migration.applied)
        .collect();
    let target = match applied.len().checked_sub(steps + 1) {
        Some(last) => applied[last].version,
        None => 0,
    };
    MIGRATOR.undo(pool, target).await
}

/// Every migration, oldest first.
pub async fn status(pool: &PgPool) -> Result<Vec<Status>, MigrateError> {
    let mut connection = pool.acquire().await?;
    connection.ensure_migrations_table(&MIGRATOR.table_name).await?;
    let applied = connection.list_applied_migrations(&MIGRATOR.table_name).await?;
    let applied: HashSet<i64> = applied.into_iter().map(|migration| migration.version).collect();
    Ok(MIGRATOR
        .iter()
        .filter(|migration| migration.migration_type.is_up_migration())
        .map(|migration| Status {
            version: migration.version,
            description: migration.description.to_string(),
            applied: applied.contains(&migration.version),
        })
        .collect())
}

/// The newest version that this program knows.
pub(crate) fn newest() -> i64 {
    MIGRATOR
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or_default()
}
