//! A database that was restored from a backup: nobody misses what is stored from then on.

use common::id::TenantId;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tests::load::{Publisher, Reader};
use url::Url;
use uuid::Uuid;

use crate::support::{Options, Stack, eventually};

/// What positions move by, at least: more than anybody can have read in the meantime.
const FAR: i64 = 1_000_000_000;

/// The server, by a connection to another database than the stack's.
struct Server {
    connection: PgConnection,
    database: String,
}

impl Server {
    async fn of(stack: &Stack) -> Self {
        let (database, server) = stack.database_urls();
        let database = Url::parse(database)
            .unwrap()
            .path()
            .trim_start_matches('/')
            .to_owned();
        Self {
            connection: PgConnection::connect(server).await.unwrap(),
            database,
        }
    }

    async fn run(&mut self, sql: &str) {
        let sql = sql.replace("$database", &self.database);
        sqlx::query(AssertSqlSafe(sql))
            .execute(&mut self.connection)
            .await
            .unwrap();
    }

    /// Ends every session of the database.
    async fn disconnect_all(&mut self) {
        self.run("select pg_terminate_backend(pid) from pg_stat_activity where datname = '$database'")
            .await;
    }

    async fn back_up(&mut self) {
        self.run("alter database $database allow_connections false").await;
        // Nobody may be in a database that is copied; whoever is cut off comes back.
        loop {
            self.disconnect_all().await;
            let copy = format!("create database {0}_backup template {0}", self.database);
            let copied = sqlx::query(AssertSqlSafe(copy))
                .execute(&mut self.connection)
                .await;
            if copied.is_ok() {
                break;
            }
        }
        self.run("alter database $database allow_connections true").await;
    }

    async fn restore(&mut self) {
        self.run("drop database $database with (force)").await;
        self.run("alter database $database_backup rename to $database")
            .await;
    }
}

async fn epoch(stack: &Stack) -> Uuid {
    let epoch = sqlx::query_scalar("select epoch from fleet");
    epoch.fetch_one(stack.pool()).await.unwrap()
}

async fn first_position(stack: &Stack, tenant: TenantId) -> i64 {
    let position = sqlx::query_scalar("select last from positions where tenant_id = $1");
    position.bind(tenant.0).fetch_one(stack.pool()).await.unwrap()
}

#[tokio::test]
async fn a_reader_with_a_cursor_from_before_a_restore_sees_everything_new() {
    let stack = Stack::start(Options::default()).await;
    let tenant = stack.tenant("restored").await;
    let mut publisher = Publisher::new(stack.amqp_url());
    publisher.send(&[tenant], 50, 256).await.unwrap();
    stack.stored(tenant, 50).await;
    let mut server = Server::of(&stack).await;
    server.back_up().await;
    let before = epoch(&stack).await;

    publisher.send(&[tenant], 200, 256).await.unwrap();
    stack.stored(tenant, 250).await;
    // One that is made after the backup has a queue that the restored database knows nothing of.
    let unknown = stack.tenant("unknown").await;
    let mut reader = Reader::new(&stack.rest(), tenant);
    reader.until(250).await.unwrap();

    // The daemon stays, and stores nothing where readers would not look for it.
    stack.control_plane().terminate().await;
    server.restore().await;
    publisher.send(&[tenant], 100, 256).await.unwrap();
    eventually("the daemon says why it stores nothing", async || {
        stack
            .daemon()
            .log_tail(100_000)
            .contains("restored from a backup")
    })
    .await;
    assert_eq!(stack.count(tenant).await, 50);
    stack.control_plane().start_again().unwrap();
    stack.control_plane().ready().await.unwrap();
    assert_ne!(epoch(&stack).await, before, "a new epoch has begun");

    stack.stored(tenant, 150).await;
    reader.until(350).await.unwrap();
    assert!(first_position(&stack, tenant).await > FAR);
    // The daemon has taken over the new history: what is changed there is applied.
    let path = format!("/api/tenants/{tenant}/config/concurrency");
    let five = serde_json::json!({ "workers": 5 });
    eventually("a change is applied", async || {
        stack.put(&path, &stack.admin(), &five).await.1["applied"] == true
    })
    .await;
    let later = stack.tenant("made after the restore").await;
    assert!(first_position(&stack, later).await > FAR);
    eventually("nobody consumes what is unknown", async || {
        stack
            .queue(&unknown.queue())
            .await
            .map(|(_, consumers)| consumers)
            == Some(0)
    })
    .await;
}

#[tokio::test]
async fn a_restore_that_keeps_the_databases_identity_is_noticed_by_what_daemons_run() {
    let stack = Stack::start(Options::default()).await;
    let tenant = stack.tenant("restored in place").await;
    let before = epoch(&stack).await;
    // As a copy of the server's files would be.
    stack.control_plane().terminate().await;
    for sql in [
        "update fleet set revision = 0",
        "update assignments set revision = 0, observed_revision = 0",
    ] {
        sqlx::query(sql).execute(stack.pool()).await.unwrap();
    }
    stack.control_plane().start_again().unwrap();
    eventually("a new epoch has begun", async || epoch(&stack).await != before).await;
    assert!(first_position(&stack, tenant).await > FAR);
    let consumed = async || stack.consumers(tenant).await.contains_key("ingest-daemon-1");
    stack.control_plane().ready().await.unwrap();
    eventually("its lane runs", consumed).await;
}

#[tokio::test]
async fn a_control_plane_that_starts_again_on_the_same_database_begins_no_epoch() {
    let stack = Stack::start(Options::default()).await;
    let tenant = stack.tenant("the same").await;
    let before = epoch(&stack).await;
    stack.control_plane().restart().await.unwrap();
    assert_eq!(epoch(&stack).await, before);
    assert_eq!(first_position(&stack, tenant).await, 0);
}
