//! What these tests ask of a stack, in one call each. A failure of the harness fails the test.

use std::{collections::BTreeMap, process::Output, sync::Arc, time::Duration};

use common::id::TenantId;
use control_plane::identity::Role;
use lapin::{Channel, Connection, options::QueueDeclareOptions, types::FieldTable};
use local::processes::Signal;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{PgPool, Postgres, Transaction};
pub(crate) use tests::Options;
use tests::{Account, Answer, Environment, Member, Rest, usage};
use uuid::Uuid;

/// What takes longer on two busy cores has failed.
const PATIENCE: Duration = Duration::from_secs(120);
const DAEMON: &str = "ingest-daemon-1";
const CONTROL_PLANE: &str = "control-plane-1";

/// A stack, and a connection to its broker.
pub(crate) struct Stack(tests::Stack);

/// Waits until a condition holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    let what = what.to_owned();
    async move {
        let holds = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, holds).await.is_ok();
        assert!(in_time, "{caller}: not within {PATIENCE:?}: {what}");
    }
}

impl Stack {
    pub(crate) async fn start(options: Options) -> Self {
        Self(tests::Stack::start(options).await.unwrap())
    }

    /// A control plane alone.
    pub(crate) async fn without_daemons() -> Self {
        Self::start(Options {
            daemons: 0,
            ..Options::default()
        })
        .await
    }

    /// On services of its own, which can be restarted; `None` where they cannot be had.
    pub(crate) async fn start_alone(test: &str, options: Options) -> Option<Self> {
        let environment: Arc<Environment> = Environment::private(test).await.unwrap()?;
        Some(Self(tests::Stack::start_in(environment, options).await.unwrap()))
    }

    pub(crate) fn rest(&self) -> Rest {
        self.0.rest().unwrap()
    }

    /// A REST client of that control plane, as admin.
    pub(crate) fn rest_of(&self, member: &Member) -> Rest {
        Rest::new(&member.url().unwrap(), Some(self.admin()))
    }

    pub(crate) fn admin(&self) -> String {
        self.0.admin_token().unwrap()
    }

    pub(crate) fn token(&self, role: Role, tenant: Option<Uuid>) -> String {
        self.0.token(role, tenant).unwrap()
    }

    pub(crate) fn secret(&self) -> &str {
        self.0.secret()
    }

    pub(crate) fn url(&self) -> String {
        self.0.url()
    }

    pub(crate) fn amqp_url(&self) -> &str {
        self.0.amqp_url()
    }

    /// The URL of what the broker's management API says of the test's vhost, with the login.
    pub(crate) fn management(&self, what: &str) -> String {
        let base = self.0.environment().services().management_url().unwrap();
        let vhost = self.amqp_url().rsplit('/').next().unwrap();
        format!("{base}/api/{what}/{vhost}")
    }

    pub(crate) fn pool(&self) -> &PgPool {
        self.0.database()
    }

    /// Begins a steady load on tenants that are to notice nothing: `per_second` messages a second to each.
    pub(crate) async fn account(&self, tenants: &[TenantId], per_second: u32) -> Account {
        Account::start(&self.0, tenants, per_second).await.unwrap()
    }

    /// Any request with any body; without a token where it is empty.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> Answer {
        let rest = if token.is_empty() {
            self.rest().anonymous()
        } else {
            self.rest().with_token(token)
        };
        rest.raw(method, path, body).await.unwrap()
    }

    async fn json(&self, method: Method, path: &str, token: &str, body: Option<&Value>) -> (u16, Value) {
        let body = body.map(|body| ("application/json", body.to_string().into_bytes()));
        let answer = self.send(method, path, token, body).await;
        (answer.status, answer.json)
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> (u16, Value) {
        self.json(Method::GET, path, token, None).await
    }

    pub(crate) async fn delete(&self, path: &str, token: &str) -> (u16, Value) {
        self.json(Method::DELETE, path, token, None).await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: &Value) -> (u16, Value) {
        self.json(Method::POST, path, token, Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, token: &str, body: &Value) -> (u16, Value) {
        self.json(Method::PUT, path, token, Some(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, token: &str, body: &Value) -> (u16, Value) {
        self.json(Method::PATCH, path, token, Some(body)).await
    }

    /// Creates an active tenant.
    pub(crate) async fn tenant(&self, name: &str) -> TenantId {
        let (status, tenant) = self
            .post("/api/tenants", &self.admin(), &json!({ "name": name }))
            .await;
        assert_eq!(status, 201, "{tenant}");
        tenant["id"].as_str().unwrap().parse().unwrap()
    }

    /// Creates so many active tenants.
    pub(crate) async fn tenants(&self, count: usize) -> Vec<TenantId> {
        let mut tenants = Vec::new();
        for number in 0..count {
            tenants.push(self.tenant(&format!("tenant {number}")).await);
        }
        tenants
    }

    /// A queue's messages and consumers, as the broker says; `None` if there is no such queue.
    pub(crate) async fn queue(&self, name: &str) -> Option<(u32, u32)> {
        let (_connection, channel) = self.amqp().await;
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let queue = channel
            .queue_declare(name.into(), options, FieldTable::default())
            .await
            .ok()?;
        Some((queue.message_count(), queue.consumer_count()))
    }

    pub(crate) async fn amqp(&self) -> (Connection, Channel) {
        let connection = self.0.amqp().await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        (connection, channel)
    }

    /// How many messages of a tenant are stored.
    pub(crate) async fn count(&self, tenant: TenantId) -> u64 {
        let count = sqlx::query_scalar::<_, i64>("select count(*) from messages where tenant_id = $1");
        count
            .bind(tenant.0)
            .fetch_one(self.pool())
            .await
            .unwrap()
            .unsigned_abs()
    }

    /// Waits until at least `count` messages of a tenant are stored.
    pub(crate) async fn stored(&self, tenant: TenantId, count: u64) {
        eventually("messages are stored", async || self.count(tenant).await >= count).await;
    }

    /// A variable of the daemons that are added from now on.
    pub(crate) fn configure_daemons(&mut self, name: &'static str, value: String) {
        self.0.configure_daemons(name, value);
    }

    /// Locks a tenant's partition until the transaction ends.
    pub(crate) async fn lock_table(&self, tenant: TenantId) -> Transaction<'_, Postgres> {
        let mut transaction = self.pool().begin().await.unwrap();
        let table = format!("messages_{}", tenant.0.simple());
        let lock = sqlx::AssertSqlSafe(format!("lock table {table} in access exclusive mode"));
        sqlx::query(lock).execute(&mut *transaction).await.unwrap();
        transaction
    }

    /// Starts one more daemon, and waits until it is ready.
    pub(crate) async fn add_daemon(&mut self) {
        self.0.add_daemon().await.unwrap();
    }

    /// The program of that name: `control-plane-1`, `ingest-daemon-1` and so on.
    pub(crate) fn member(&self, name: &str) -> &Member {
        self.0.member(name).unwrap()
    }

    /// What a tenant's consumers are: each daemon and its workers.
    pub(crate) async fn consumers(&self, tenant: TenantId) -> BTreeMap<String, u64> {
        let (status, tenant) = self.get(&format!("/api/tenants/{tenant}"), &self.admin()).await;
        assert_eq!(status, 200, "{tenant}");
        let consumers = tenant["runtime"]["consumers"].as_array().unwrap().iter();
        let consumer = |consumer: &Value| {
            let daemon = consumer["daemon"].as_str().unwrap().to_owned();
            (daemon, consumer["workers"].as_u64().unwrap())
        };
        consumers.map(consumer).collect()
    }

    pub(crate) fn daemon(&self) -> &Member {
        self.0.member(DAEMON).unwrap()
    }

    pub(crate) fn control_plane(&self) -> &Member {
        self.0.member(CONTROL_PLANE).unwrap()
    }

    /// The control plane's metrics, once they have `wanted`: its gauges are read every few seconds.
    pub(crate) async fn control_plane_metrics_with(&self, wanted: &str) -> String {
        let mut text = String::new();
        eventually(wanted, async || {
            text = self.control_plane().metrics().await.unwrap();
            text.contains(wanted)
        })
        .await;
        text
    }

    /// Has the broker say that it is short of memory, or that it is no more.
    pub(crate) async fn memory_alarm(&self, alarm: bool) {
        let native = self.0.environment().native().unwrap();
        let watermark = if alarm { "0.000001" } else { "0.9" };
        let arguments = ["set_vm_memory_high_watermark", watermark];
        native.rabbitmq().control(&arguments).await.unwrap();
    }

    /// Has every channel that consumes hang, or all go on. Their connections answer otherwise.
    pub(crate) async fn hang_consuming_channels(&self, hang: bool) {
        let native = self.0.environment().native().unwrap();
        let each = match hang {
            true => {
                "[sys:suspend(C) ||
                  [{consumer_count, N}] <- [rabbit_channel:info(C, [consumer_count])], N > 0]"
            }
            false => "sys:resume(C)",
        };
        // One that ends while the list is gone through (the one that was given up, say) neither
        // hangs nor goes on.
        let expression =
            format!("[try {each} catch exit:_ -> gone end || C <- rabbit_channel:list_local()].");
        native.rabbitmq().control(&["eval", &expression]).await.unwrap();
    }

    /// Freezes the broker, as a machine that hangs would, or thaws it.
    pub(crate) fn freeze_rabbitmq(&self, frozen: bool) {
        let native = self.0.environment().native().unwrap();
        let signal = if frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        native.rabbitmq().signal(signal);
    }

    pub(crate) async fn stop_rabbitmq(&self) {
        self.0.environment().native().unwrap().rabbitmq().stop().await;
    }

    /// Takes from the broker everything that the test has there.
    pub(crate) async fn wipe_broker(&self) {
        self.0.wipe_broker().await.unwrap();
    }

    pub(crate) async fn restart_rabbitmq(&self) {
        let native = self.0.environment().native().unwrap();
        native.rabbitmq().stop().await;
        native.rabbitmq().start().await.unwrap();
    }

    /// Starts the broker again, which was stopped, without anything that it has ever kept.
    pub(crate) async fn start_rabbitmq_wiped(&self) {
        let native = self.0.environment().native().unwrap();
        native.rabbitmq().wipe().unwrap();
        native.rabbitmq().start().await.unwrap();
        self.0.make_vhost().await.unwrap();
    }

    /// Kills the broker, as a crash would, and starts it again.
    pub(crate) async fn crash_rabbitmq(&self) {
        let native = self.0.environment().native().unwrap();
        native.rabbitmq().kill().await;
        native.rabbitmq().start().await.unwrap();
    }

    pub(crate) async fn stop_postgres(&self) {
        self.0.environment().native().unwrap().postgres().stop().await;
    }

    pub(crate) async fn start_postgres(&self) {
        let native = self.0.environment().native().unwrap();
        native.postgres().start().await.unwrap();
    }

    /// Freezes PostgreSQL, until it is thawed.
    pub(crate) fn freeze_postgres(&self) {
        self.0.environment().native().unwrap().postgres().freeze();
    }

    pub(crate) fn thaw_postgres(&self) {
        self.0.environment().native().unwrap().postgres().thaw();
    }

    /// The stack's database, and its server by another database's name.
    pub(crate) fn database_urls(&self) -> (&str, &str) {
        (
            self.0.database_url(),
            self.0.environment().services().database_url(),
        )
    }

    pub(crate) async fn restart_postgres(&self) {
        self.stop_postgres().await;
        self.start_postgres().await;
    }

    /// What the daemon has used of a processor so far; nothing where that is not known.
    pub(crate) fn daemon_cpu(&self) -> Duration {
        usage::cpu(self.daemon().pid()).unwrap_or_default()
    }

    /// The bytes of memory that the daemon has now; none where that is not known.
    pub(crate) fn daemon_memory(&self) -> u64 {
        usage::memory(self.daemon().pid()).unwrap_or_default()
    }

    /// Runs a subcommand of the control plane to its end.
    pub(crate) async fn control_plane_command(&self, arguments: &[&str]) -> Output {
        self.0.control_plane_command(arguments).await.unwrap()
    }

    /// Runs a subcommand of the daemon to its end.
    pub(crate) async fn daemon_command(&self, arguments: &[&str]) -> Output {
        self.0.daemon_command(arguments).await.unwrap()
    }
}
