//! A private RabbitMQ, with an epmd (Erlang's port mapper, which a node must find to start) of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;

use super::Slot;
use crate::{
    data::{self, Data},
    processes::{Process, Register, Spec, Stage},
    services::{rule::Installed, state::State, wait},
};

const USER: &str = "jalur";
/// The folder of everything that outlasts a restart.
const KEPT: &str = "mnesia";
/// It starts an Erlang of its own.
const CONTROL_MAX: Duration = Duration::from_secs(60);
/// epmd has nothing to save.
const EPMD_GRACE: Duration = Duration::from_secs(2);

/// A broker that can be stopped, killed and started.
#[derive(Debug)]
pub struct Rabbitmq {
    programs: Installed,
    epmd_program: PathBuf,
    folder: PathBuf,
    log: PathBuf,
    epmd_log: PathBuf,
    state: State,
    register: Register,
    process: Slot,
    epmd: Slot,
}

impl Rabbitmq {
    /// Writes its configuration.
    pub(super) fn prepare(
        installed: &[Installed],
        data: &Data,
        state: &State,
        register: Register,
    ) -> anyhow::Result<Self> {
        let programs = installed.first().context("RabbitMQ is not installed")?.clone();
        let rabbitmq = Self {
            programs,
            epmd_program: epmd()?,
            folder: data.folder("rabbitmq")?,
            log: data.log("rabbitmq"),
            epmd_log: data.log("epmd"),
            state: state.clone(),
            register,
            process: Slot::default(),
            epmd: Slot::default(),
        };
        fs::create_dir_all(rabbitmq.folder.join("conf.d")).context("RabbitMQ's folder cannot be made")?;
        data::write_private(&rabbitmq.folder.join("rabbitmq.conf"), &rabbitmq.configuration())?;
        data::write_private(
            &rabbitmq.folder.join("enabled_plugins"),
            "[rabbitmq_management,rabbitmq_prometheus].\n",
        )?;
        Ok(rabbitmq)
    }

    fn configuration(&self) -> String {
        let State {
            password,
            amqp_port,
            management_port,
            prometheus_port,
            ..
        } = &self.state;
        format!(
            "# Written at every start.\n\
             listeners.tcp.1 = 127.0.0.1:{amqp_port}\n\
             management.tcp.ip = 127.0.0.1\n\
             management.tcp.port = {management_port}\n\
             prometheus.tcp.ip = 127.0.0.1\n\
             prometheus.tcp.port = {prometheus_port}\n\
             # The only user, made with an empty node.\n\
             default_user = {USER}\n\
             default_pass = {password}\n\
             default_user_tags.administrator = true\n\
             # As up to 3.13; from 4.0 on the default is 16 MiB.\n\
             max_message_size = 134217728\n"
        )
    }

    /// `3.10`
    pub fn version(&self) -> String {
        let (major, minor) = self.programs.version;
        format!("{major}.{minor}")
    }

    /// `amqp://…` of an administrator.
    pub fn url(&self) -> String {
        let State {
            password, amqp_port, ..
        } = &self.state;
        format!("amqp://{USER}:{password}@127.0.0.1:{amqp_port}/%2f")
    }

    /// `http://…` of the management plugin, with the login.
    pub fn management_url(&self) -> String {
        let State {
            password,
            management_port,
            ..
        } = &self.state;
        format!("http://{USER}:{password}@127.0.0.1:{management_port}")
    }

    /// `http://…` of the Prometheus plugin.
    pub fn prometheus_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.state.prometheus_port)
    }

    /// Starts it and waits until it answers.
    pub async fn start(&self) -> anyhow::Result<()> {
        if self.epmd.running().is_none() {
            self.epmd.set(self.register.spawn(self.epmd_spec())?);
        }
        let process = self.register.spawn(self.spec())?;
        self.process.set(process.clone());
        let (url, management_url) = (self.url(), self.management_url());
        let client = crate::http::client();
        wait::until("RabbitMQ", Some(&process), || wait::rabbitmq(&url)).await?;
        wait::until("RabbitMQ's management", Some(&process), || {
            wait::management(&client, &management_url)
        })
        .await
    }

    fn spec(&self) -> Spec {
        let mut command = Command::new(self.programs.folder.join("rabbitmq-server"));
        without_inherited(&mut command);
        self.address(&mut command);
        let distribution_port = self.state.distribution_port;
        command
            .env("RABBITMQ_DIST_PORT", distribution_port.to_string())
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1}",
            )
            .env("RABBITMQ_CONFIG_FILE", self.folder.join("rabbitmq.conf"))
            .env("RABBITMQ_CONFIG_FILES", self.folder.join("conf.d"))
            .env(
                "RABBITMQ_ADVANCED_CONFIG_FILE",
                self.folder.join("advanced.config"),
            )
            .env(
                "RABBITMQ_ENABLED_PLUGINS_FILE",
                self.folder.join("enabled_plugins"),
            )
            .env("RABBITMQ_MNESIA_BASE", self.folder.join(KEPT))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", self.folder.join("generated"))
            .env("RABBITMQ_PID_FILE", self.folder.join("pid"))
            // To standard output, and so into our log.
            .env("RABBITMQ_LOG_BASE", self.folder.join("log"))
            .env("RABBITMQ_LOGS", "-")
            // The script is to become the node, not to stand in front of it: then its pid is the broker's.
            .env("RUNNING_UNDER_SYSTEMD", "true");
        Spec {
            name: "rabbitmq".into(),
            command,
            log: self.log.clone(),
            stage: Stage::Services,
            stop: Signal::SIGTERM,
        }
    }

    /// In the foreground, so that it is our child; the node would start one that nobody stops.
    fn epmd_spec(&self) -> Spec {
        let mut command = Command::new(&self.epmd_program);
        command.current_dir("/");
        self.share_epmd(&mut command);
        Spec {
            name: "epmd".into(),
            command,
            log: self.epmd_log.clone(),
            stage: Stage::Support,
            stop: Signal::SIGTERM,
        }
    }

    /// Which node it is, for itself and for who controls it.
    fn address(&self, command: &mut Command) {
        command
            .current_dir("/")
            // The Erlang cookie is kept there.
            .env("HOME", &self.folder)
            // Not the port: the node's files are bound to its name.
            .env("RABBITMQ_NODENAME", format!("jalur-{}@localhost", self.state.id))
            // Nothing of a system-wide installation is to be read or written.
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null");
        self.share_epmd(command);
    }

    fn share_epmd(&self, command: &mut Command) {
        command
            .env("ERL_EPMD_PORT", self.state.epmd_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1");
    }

    /// Stops it in good order.
    pub async fn stop(&self) {
        self.process.stop().await;
    }

    pub(super) async fn stop_all(&self) {
        self.stop().await;
        if let Some(epmd) = self.epmd.running() {
            epmd.stop(EPMD_GRACE).await;
        }
    }

    /// Kills it, as a power cut would.
    pub async fn kill(&self) {
        self.process.kill().await;
    }

    /// Loses everything that it keeps, as with its disk; while it is stopped. It starts with its user and an empty
    /// vhost `/`.
    pub fn wipe(&self) -> anyhow::Result<()> {
        ensure!(self.process.running().is_none(), "RabbitMQ runs");
        fs::remove_dir_all(self.folder.join(KEPT)).context("what RabbitMQ keeps cannot be removed")
    }

    /// Runs `rabbitmqctl` on it.
    pub async fn control(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new(self.programs.folder.join("rabbitmqctl"));
        without_inherited(&mut command);
        self.address(&mut command);
        command.args(arguments).stdin(Stdio::null());
        let running = tokio::process::Command::from(command).kill_on_drop(true).output();
        let output = tokio::time::timeout(CONTROL_MAX, running)
            .await
            .context("rabbitmqctl does not end")??;
        ensure!(
            output.status.success(),
            "rabbitmqctl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Signals it: SIGSTOP freezes all of it, SIGCONT thaws it.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Its process, if it runs.
    pub fn process(&self) -> Option<Process> {
        self.process.running()
    }
}

/// What the shell has set for another RabbitMQ or Erlang is not for this one.
fn without_inherited(command: &mut Command) {
    let foreign = ["RABBITMQ_", "ERL_", "NOTIFY_SOCKET"];
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| foreign.iter().any(|prefix| name.starts_with(prefix)))
        {
            command.env_remove(name);
        }
    }
}

/// Erlang's packages link epmd beside `erl`; those that do not have it among Erlang's own programs.
fn epmd() -> anyhow::Result<PathBuf> {
    if let Ok(path) = which::which("epmd") {
        return Ok(path);
    }
    let erl = which::which("erl").context("RabbitMQ is installed, but Erlang's `erl` is not on PATH")?;
    let beside = |erl: &Path| Some(erl.canonicalize().ok()?.parent()?.join("epmd"));
    beside(&erl)
        .filter(|path| path.is_file())
        .with_context(|| format!("there is no epmd on PATH or beside {}", erl.display()))
}
