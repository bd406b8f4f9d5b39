//! How PostgreSQL is connected to.

use std::{str::FromStr as _, time::Duration};

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};

use crate::config;

/// The longest a statement may run. Ours take milliseconds; what takes longer is stuck behind a lock.
const STATEMENT_TIMEOUT_MS: u32 = 10_000;
/// What a transaction that stopped half way may hold its locks for: a frozen process frees its peers after this.
const IDLE_IN_TRANSACTION_TIMEOUT_MS: u32 = 2_000;
/// How long a pool waits for a connection before it says that the database cannot be reached.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection keeps up to 33 kB for every partition it ever touched; it is replaced before that adds up.
const MAX_LIFETIME: Duration = Duration::from_secs(30 * 60);

/// How one connection is opened; `name` is shown in `pg_stat_activity`.
pub fn options(config: &config::Database, name: &str) -> Result<PgConnectOptions, config::Error> {
    let options = PgConnectOptions::from_str(config.url.expose())
        .map_err(|error| config::Error::key("database.url", error.to_string()))?;
    Ok(options.application_name(name).options([
        // The sixth run of a prepared statement would otherwise plan over, and lock, every partition: seconds
        // where there are thousands of tenants.
        ("plan_cache_mode", "force_custom_plan".to_owned()),
        ("statement_timeout", format!("{STATEMENT_TIMEOUT_MS}ms")),
        (
            "idle_in_transaction_session_timeout",
            format!("{IDLE_IN_TRANSACTION_TIMEOUT_MS}ms"),
        ),
        // Times are read back as text by people too.
        ("timezone", "UTC".to_owned()),
    ]))
}

/// A pool that connects when it is first used, so that a program can start while the database is down.
pub fn pool(config: &config::Database, name: &str) -> Result<PgPool, config::Error> {
    Ok(PgPoolOptions::new()
        .max_connections(config.max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .max_lifetime(MAX_LIFETIME)
        .connect_lazy_with(options(config, name)?))
}
