//! How PostgreSQL is connected to.

mod url;

use std::{
    str::FromStr as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection,
    postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode},
};
use tokio::time::timeout;
use tracing::debug;

use crate::config;

/// The key that says where the state is.
const URL: &str = "database.url";
/// The longest a statement may run. Ours take milliseconds; what takes longer is stuck behind a lock.
const STATEMENT_TIMEOUT_MS: u32 = 10_000;
/// What a transaction that stopped half way may hold its locks for: a frozen process frees its peers after this.
const IDLE_IN_TRANSACTION_TIMEOUT_MS: u32 = 2_000;
/// How long a pool waits for a connection before it says that the database cannot be reached.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection keeps up to 33 kB for every partition it ever touched; it is replaced before that adds up.
const MAX_LIFETIME: Duration = Duration::from_secs(30 * 60);
/// How long the start looks at what it connects to, before it goes on without.
const LOOK: Duration = Duration::from_secs(5);

/// How a connection is opened, and what its session is set to. Set once it is open: what stands in the startup packet
/// instead, a pooler in between refuses.
#[derive(Clone, Debug)]
pub struct Connect {
    options: PgConnectOptions,
    settings: String,
}

impl Connect {
    /// Connections to the configured database; `name` is shown in `pg_stat_activity`.
    pub fn new(config: &config::Database, name: &str) -> Result<Self, config::Error> {
        // Its time zone is UTC: times are read back as text by people too.
        Ok(Self::bare(config, name)?
            // The sixth run of a prepared statement would otherwise plan over, and lock, every partition: seconds
            // where there are thousands of tenants.
            .set("plan_cache_mode", "force_custom_plan")
            // Nothing of ours lasts long enough to be worth compiling. Where a way to a row is ruled out its cost is a
            // fiction, though, and a new session would load and run a compiler for it: half a second of a processor.
            .set("jit", "off")
            .set("statement_timeout", &STATEMENT_TIMEOUT_MS.to_string())
            .set(
                "idle_in_transaction_session_timeout",
                &IDLE_IN_TRANSACTION_TIMEOUT_MS.to_string(),
            ))
    }

    /// The same with PostgreSQL's own settings, for what may take its time.
    pub fn bare(config: &config::Database, name: &str) -> Result<Self, config::Error> {
        Self::to(URL, &config.url, name)
    }

    /// What the key's URL leads to.
    fn to(key: &str, url: &config::Secret, name: &str) -> Result<Self, config::Error> {
        let url = url::checked(key, url.expose())?;
        let options = PgConnectOptions::from_str(url.as_str())
            .map_err(|_| config::Error::key(key, "cannot be understood"))?
            .application_name(name)
            // Nothing of ours is a floating-point number.
            .extra_float_digits(None);
        Ok(Self {
            options,
            settings: String::new(),
        })
    }

    /// Sets one thing more, or another way.
    pub fn set(mut self, name: &'static str, value: &str) -> Self {
        let value = value.replace('\'', "''");
        self.settings.push_str(&format!("set {name} = '{value}';"));
        self
    }

    /// Without a line in the log for each statement that is slow.
    pub fn quiet(mut self) -> Self {
        self.options = self.options.disable_statement_logging();
        self
    }

    /// Opens one.
    pub async fn connection(&self) -> sqlx::Result<PgConnection> {
        let mut connection = PgConnection::connect_with(&self.options).await?;
        prepare(&mut connection, &self.settings).await?;
        Ok(connection)
    }

    /// A pool that connects when it is first used, so that a program can start while the database is down.
    pub fn pool(self, pool: PgPoolOptions) -> PgPool {
        let settings = self.settings;
        pool.after_connect(move |connection, _| {
            let settings = settings.clone();
            Box::pin(async move { prepare(connection, &settings).await })
        })
        .connect_lazy_with(self.options)
    }
}

/// One round trip, whatever there is to set.
async fn prepare(connection: &mut PgConnection, settings: &str) -> sqlx::Result<()> {
    if !settings.is_empty() {
        connection.execute(AssertSqlSafe(settings)).await?;
    }
    Ok(())
}

/// Checks what a configuration says of PostgreSQL. In clear it is only spoken to on this machine, unless `insecure`.
pub fn check(config: &config::Database, insecure: bool) -> Result<(), config::Error> {
    check_url(URL, &config.url, insecure)?;
    if config.schema_url.is_empty() {
        return Ok(());
    }
    check_url("database.schema_url", &config.schema_url, insecure)
}

fn check_url(key: &str, url: &config::Secret, insecure: bool) -> Result<(), config::Error> {
    config::validate_url(key, url, &["postgres", "postgresql"])?;
    let options = Connect::to(key, url, "check")?.options;
    let clear = matches!(
        options.get_ssl_mode(),
        PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer
    );
    if clear && !insecure && options.get_socket().is_none() {
        let remedy = "add ?sslmode=verify-full, and sslrootcert= for an authority of your own";
        config::check_clear(key, options.get_host(), remedy)?;
    }
    Ok(())
}

/// A pool that connects when it is first used, of as many connections as are configured.
pub fn pool(config: &config::Database, name: &str) -> Result<PgPool, config::Error> {
    Ok(Connect::new(config, name)?.pool(connections(config.max_connections)))
}

/// How a pool of so many connections waits for them, and how long it keeps each.
pub fn connections(count: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(count)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .max_lifetime(MAX_LIFETIME)
}

/// Whether a session is ours for as long as it is open, and not for one transaction only: with PgBouncer in transaction
/// mode settings, locks, notifications and prepared statements would go to whoever comes next.
#[derive(Clone, Debug)]
pub struct Sessions {
    connect: Connect,
    last: Arc<AtomicBool>,
}

impl Sessions {
    /// Sessions of the configured database.
    pub fn new(config: &config::Database) -> Result<Self, config::Error> {
        Ok(Self {
            connect: Connect::bare(config, "jalur start")?,
            last: Arc::default(),
        })
    }

    /// Looks, until it has once been seen that they last. A database that cannot be reached is no error.
    pub async fn check(&self) -> Result<(), config::Error> {
        if self.last.load(Ordering::Relaxed) {
            return Ok(());
        }
        match timeout(LOOK, sessions_last(&self.connect)).await {
            Ok(Ok(true)) => self.last.store(true, Ordering::Relaxed),
            Ok(Ok(false)) => {
                return Err(config::Error::key(
                    URL,
                    "leads to a pooler that gives a session to somebody else after each transaction: set pool_mode = \
                     session for this database in PgBouncer, or name PostgreSQL itself",
                ));
            }
            Ok(Err(error)) => debug!(%error, "PostgreSQL cannot be looked at yet"),
            Err(_) => debug!("PostgreSQL does not answer yet"),
        }
        Ok(())
    }
}

/// Two sessions: what one sets, it keeps, and the other does not see.
async fn sessions_last(connect: &Connect) -> sqlx::Result<bool> {
    let mark = format!("{:x}", rand::random::<u128>());
    let (mut one, mut other) = (connect.connection().await?, connect.connection().await?);
    // As simple queries: prepared statements are among what may not last.
    let set = format!("set jalur.session = '{mark}'");
    one.execute(AssertSqlSafe(set)).await?;
    let others = marked(&mut other).await?;
    let own = marked(&mut one).await?;
    let _ = tokio::join!(one.close(), other.close());
    Ok(own == mark && others != mark)
}

async fn marked(connection: &mut PgConnection) -> sqlx::Result<String> {
    use sqlx::Row as _;
    let row = connection
        .fetch_one(sqlx::raw_sql(
            "select coalesce(current_setting('jalur.session', true), '')",
        ))
        .await?;
    row.try_get(0)
}
