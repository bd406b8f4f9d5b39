//! One test's own system: a database, a vhost, control planes and daemons, all gone when it is dropped.

mod member;
mod room;

use std::{
    process::{Output, Stdio},
    str::FromStr as _,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use common::config::Secret;
use control_plane::identity::Role;
use lapin::ConnectionProperties;
use local::programs::{self, Programs};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

pub use self::member::Member;
use self::{member::Kind, room::Room};
use crate::{environment::Environment, rest::Rest};

/// The key of a test's tokens. No secret: it guards nothing.
const SECRET: &str = "the key of a test, which is as long as a key has to be";
/// No test takes longer.
const TOKEN_TTL: Duration = Duration::from_secs(3600);
/// What a local connection may take on a busy machine.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a subcommand may take: a migration at most.
const COMMAND: Duration = Duration::from_secs(60);
/// A port that nobody listens on: the control plane of daemons that have none.
const NOBODY: &str = "http://127.0.0.1:1";
/// How many lines of each log a failed test shows.
const LOG_LINES: usize = 60;
/// What a whole run of the tests may set: the queue type of every stack that asks for none, `classic` or `quorum`.
const QUEUE_TYPE: &str = "JALUR_TEST_QUEUE_TYPE";
const QUEUE_TYPE_KEY: &str = "JALUR_RABBITMQ__QUEUE_TYPE";

/// What to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many control planes.
    pub control_planes: u16,
    /// How many daemons.
    pub daemons: u16,
    /// Configuration of every program, such as `("JALUR_LOG__FILTER", "debug".into())`.
    pub env: Vec<(&'static str, String)>,
    /// Configuration of the control planes alone.
    pub control_plane_env: Vec<(&'static str, String)>,
    /// Configuration of the daemons alone.
    pub daemon_env: Vec<(&'static str, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            control_planes: 1,
            daemons: 1,
            env: Vec::new(),
            control_plane_env: Vec::new(),
            daemon_env: Vec::new(),
        }
    }
}

/// A running system.
#[derive(Debug)]
pub struct Stack {
    members: Vec<Member>,
    database: PgPool,
    room: Room,
    options: Options,
    programs: Programs,
    environment: Arc<Environment>,
}

impl Stack {
    /// Starts one on the services that all tests share.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        Self::start_in(Environment::shared().await?, options).await
    }

    /// Starts one on these services.
    pub async fn start_in(environment: Arc<Environment>, options: Options) -> anyhow::Result<Self> {
        let room = Room::open(environment.services()).await?;
        let programs = Programs {
            binary: environment.binary(),
            data: environment.folder(room.name())?,
            database_url: room.database_url().to_owned(),
            amqp_url: room.amqp_url().to_owned(),
            management_url: environment.services().management_url().map(str::to_owned),
            prometheus_url: environment.services().prometheus_url().map(str::to_owned),
            secret: SECRET.into(),
            env: queue_type().into_iter().collect(),
            inherit: false,
        };
        // A generic plan over all partitions would wait for one that a test has locked.
        let connect = PgConnectOptions::from_str(room.database_url())?;
        let database = PgPoolOptions::new()
            .max_connections(4)
            .acquire_timeout(CONNECT)
            .connect_lazy_with(connect.options([("plan_cache_mode", "force_custom_plan")]));
        let (control_planes, daemons) = (options.control_planes, options.daemons);
        let mut stack = Self {
            members: Vec::new(),
            database,
            room,
            options,
            programs,
            environment,
        };
        stack.programs.migrate().await?;
        for _ in 0..control_planes {
            stack.add(Kind::ControlPlane)?;
        }
        for _ in 0..daemons {
            stack.add(Kind::IngestDaemon)?;
        }
        for member in &stack.members {
            member.ready().await?;
        }
        Ok(stack)
    }

    /// Starts one more daemon, and waits until it is ready.
    pub async fn add_daemon(&mut self) -> anyhow::Result<&Member> {
        let member = self.add(Kind::IngestDaemon)?;
        member.ready().await?;
        Ok(member)
    }

    /// A variable of the daemons that are added from now on: for what is only known once the stack is there.
    pub fn configure_daemons(&mut self, name: &'static str, value: String) {
        self.options.daemon_env.push((name, value));
    }

    /// Starts one more control plane, and waits until it is ready.
    pub async fn add_control_plane(&mut self) -> anyhow::Result<&Member> {
        let member = self.add(Kind::ControlPlane)?;
        member.ready().await?;
        Ok(member)
    }

    /// A variable of every program that is added from now on, and of subcommands.
    pub fn configure(&mut self, name: &'static str, value: String) {
        self.options.env.push((name, value));
    }

    fn add(&mut self, kind: Kind) -> anyhow::Result<&Member> {
        let member = self.prepare(kind)?;
        member.start()?;
        self.members.push(member);
        self.members.last().context("it was put there just now")
    }

    /// A member that is not started.
    fn prepare(&self, kind: Kind) -> anyhow::Result<Member> {
        let own = match kind {
            Kind::ControlPlane => &self.options.control_plane_env,
            Kind::IngestDaemon => &self.options.daemon_env,
        };
        let env = self.options.env.iter().chain(own);
        let env = env.map(|(name, value)| ((*name).to_owned(), value.clone()));
        let mut programs = self.programs.clone();
        programs.env.extend(env);
        let n = self.members.iter().filter(|member| member.kind == kind).count() + 1;
        let mut endpoints: Vec<_> = self.members.iter().filter_map(Member::url).collect();
        if endpoints.is_empty() {
            endpoints.push(NOBODY.to_owned());
        }
        Member::new(kind, n, programs, endpoints, self.environment.register().clone())
    }

    /// The program of that name: `control-plane-1`, `ingest-daemon-1` and so on.
    pub fn member(&self, name: &str) -> anyhow::Result<&Member> {
        let member = self.members.iter().find(|member| member.name() == name);
        member.with_context(|| format!("there is no {name} in this stack"))
    }

    /// All programs.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Runs a control plane of this stack with these arguments, to its end.
    pub async fn control_plane_command(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        self.command(Kind::ControlPlane, arguments).await
    }

    /// Runs a daemon of this stack with these arguments, to its end.
    pub async fn daemon_command(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        self.command(Kind::IngestDaemon, arguments).await
    }

    async fn command(&self, kind: Kind, arguments: &[&str]) -> anyhow::Result<Output> {
        let mut command = self.prepare(kind)?.command()?;
        command.args(arguments).stdin(Stdio::null());
        let output = tokio::process::Command::from(command).kill_on_drop(true).output();
        let output = tokio::time::timeout(COMMAND, output).await;
        Ok(output.with_context(|| format!("{arguments:?} does not end"))??)
    }

    /// `http://…` of the first control plane; empty without one.
    pub fn url(&self) -> String {
        self.members.iter().find_map(Member::url).unwrap_or_default()
    }

    /// `host:port` of the first control plane.
    pub fn grpc(&self) -> String {
        self.url().trim_start_matches("http://").to_owned()
    }

    /// A gRPC channel to the first control plane, which connects when it is used.
    pub fn channel(&self) -> anyhow::Result<Channel> {
        Ok(Endpoint::from_shared(self.url())?
            .connect_timeout(CONNECT)
            .connect_lazy())
    }

    /// A REST client of the first control plane, as admin.
    pub fn rest(&self) -> anyhow::Result<Rest> {
        Ok(Rest::new(&self.url(), Some(self.admin_token()?)))
    }

    /// A token of the role `admin`.
    pub fn admin_token(&self) -> anyhow::Result<String> {
        self.token(Role::Admin, None)
    }

    /// A token of any role.
    pub fn token(&self, role: Role, tenant: Option<Uuid>) -> anyhow::Result<String> {
        programs::token(self.secret(), role, tenant, TOKEN_TTL)
    }

    /// The key that tokens are signed with, for a test that forges some.
    pub fn secret(&self) -> &str {
        &self.programs.secret
    }

    /// The test's database.
    pub fn database(&self) -> &PgPool {
        &self.database
    }

    /// `postgres://…` of the test's database.
    pub fn database_url(&self) -> &str {
        self.room.database_url()
    }

    /// `amqp://…` of the test's vhost.
    pub fn amqp_url(&self) -> &str {
        self.room.amqp_url()
    }

    /// Takes from the broker everything that the test has there, as `rabbitmqctl reset` would.
    pub async fn wipe_broker(&self) -> anyhow::Result<()> {
        self.room.wipe_vhost().await
    }

    /// Makes the test's vhost in a broker that has lost everything.
    pub async fn make_vhost(&self) -> anyhow::Result<()> {
        self.room.make_vhost().await
    }

    /// A connection to the test's vhost.
    pub async fn amqp(&self) -> anyhow::Result<lapin::Connection> {
        let uri = common::broker::parse(&Secret::from(self.amqp_url()))?;
        let properties = ConnectionProperties::default().with_connection_name("test".into());
        let connection = lapin::Connection::connect_uri(uri, properties);
        Ok(tokio::time::timeout(CONNECT, connection)
            .await
            .context("RabbitMQ does not answer")??)
    }

    /// What its tenants' queues are: `classic` or `quorum`.
    pub fn queue_type(&self) -> &str {
        let set = self
            .options
            .env
            .iter()
            .rev()
            .find(|(name, _)| *name == QUEUE_TYPE_KEY);
        let all = || self.programs.env.iter().find(|(name, _)| name == QUEUE_TYPE_KEY);
        set.map(|(_, value)| value)
            .or_else(|| all().map(|(_, value)| value))
            .map_or("classic", String::as_str)
    }

    /// The services it runs on.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }
}

fn queue_type() -> Option<(String, String)> {
    let queue_type = std::env::var(QUEUE_TYPE).ok()?;
    Some((QUEUE_TYPE_KEY.into(), queue_type))
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for member in &self.members {
                eprintln!(
                    "---- the end of the log of {} ----\n{}",
                    member.name(),
                    member.log_tail(LOG_LINES)
                );
            }
        }
        let panicked = self.members.iter().find_map(Member::panicked);
        // Each is killed; then nothing uses what is removed.
        self.members.clear();
        self.room.close();
        // A task that panics is the only one to notice, as a rule.
        if let Some(panicked) = panicked
            && !std::thread::panicking()
        {
            panic!("{panicked}");
        }
    }
}
