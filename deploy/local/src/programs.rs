//! The two programs as children: this binary run again, told by its environment what to do.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, bail};
use common::config::{Config, PREFIX};
use control_plane::identity::{Keys, Role};
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{
    data::Data,
    processes::{Process, Spec, Stage},
};

/// What comes after `internal` for a control plane.
pub const CONTROL_PLANE: &str = "control-plane";
/// What comes after `internal` for a daemon.
pub const INGEST_DAEMON: &str = "ingest-daemon";

/// How long a program may take to be ready: it waits for its connections, which are there.
pub const READY: Duration = Duration::from_secs(60);
/// How long a migration may take: all of them, on an empty database, take a second.
const MIGRATION: Duration = Duration::from_secs(120);
/// How long a program may take to stop: a little more than its own `shutdown.grace`.
pub const STOP_GRACE: Duration = Duration::from_secs(35);

/// What all programs of one stack have in common.
#[derive(Clone, Debug)]
pub struct Programs {
    /// A binary whose `main` is [`crate::main`].
    pub binary: PathBuf,
    /// Where their logs go.
    pub data: Data,
    /// `postgres://…`
    pub database_url: String,
    /// `amqp://…`
    pub amqp_url: String,
    /// `http://…` of the broker's management API, where that is known.
    pub management_url: Option<String>,
    /// `http://…` of the broker's Prometheus plugin, where that is known.
    pub prometheus_url: Option<String>,
    /// The key of the tokens.
    pub secret: String,
    /// More variables, for every program.
    pub env: Vec<(String, String)>,
    /// Whether the programs' configuration in this process's environment is meant for them.
    pub inherit: bool,
}

impl Programs {
    /// The schema's migrations, to the newest.
    pub async fn migrate(&self) -> anyhow::Result<()> {
        let mut command = self.command::<control_plane::Config>(CONTROL_PLANE);
        command
            .args(["migrate", "up"])
            .env("JALUR_DATABASE__URL", &self.database_url);
        let output = tokio::process::Command::from(command)
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(MIGRATION, output)
            .await
            .context("the migrations take too long")?
            .context("the migrations cannot be started")?;
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            bail!("the migrations failed: {}", error.trim());
        }
        Ok(())
    }

    /// A control plane.
    pub fn control_plane(&self, name: &str, listen: SocketAddr, admin: SocketAddr) -> Spec {
        let command = self.control_plane_command(listen, admin);
        self.spec(name, Stage::ControlPlanes, command)
    }

    /// A control plane's command, for arguments to be added.
    pub fn control_plane_command(&self, listen: SocketAddr, admin: SocketAddr) -> Command {
        let mut command = self.command::<control_plane::Config>(CONTROL_PLANE);
        command
            .env("JALUR_LISTEN", listen.to_string())
            .env("JALUR_ADMIN", admin.to_string())
            .env("JALUR_AUTH__SECRET", &self.secret);
        if !listen.ip().is_loopback() {
            allow_clear(&mut command);
        }
        if let Some(url) = &self.management_url {
            command.env("JALUR_RABBITMQ__MANAGEMENT_URL", url);
        }
        if let Some(url) = &self.prometheus_url {
            command.env("JALUR_RABBITMQ__PROMETHEUS_URL", url);
        }
        self.configure(&mut command);
        command
    }

    /// A daemon of the control planes at `endpoints`.
    pub fn ingest_daemon(&self, name: &str, endpoints: &[String], admin: SocketAddr) -> anyhow::Result<Spec> {
        let command = self.ingest_daemon_command(name, endpoints, admin)?;
        Ok(self.spec(name, Stage::Daemons, command))
    }

    /// A daemon's command, for arguments to be added.
    pub fn ingest_daemon_command(
        &self,
        id: &str,
        endpoints: &[String],
        admin: SocketAddr,
    ) -> anyhow::Result<Command> {
        // As long as a stack may run: nobody is there to give the daemon another.
        const TTL: Duration = Duration::from_secs(365 * 24 * 3600);
        let token = token(&self.secret, Role::Daemon, None, TTL)?;
        let mut command = self.command::<ingest_daemon::Config>(INGEST_DAEMON);
        command
            .env("JALUR_ID", id)
            .env("JALUR_ADMIN", admin.to_string())
            .env("JALUR_CONTROL_PLANE__ENDPOINTS", endpoints.join(","))
            .env("JALUR_CONTROL_PLANE__TOKEN", token);
        self.configure(&mut command);
        Ok(command)
    }

    /// What both programs are told.
    fn configure(&self, command: &mut Command) {
        command
            .env("JALUR_DATABASE__URL", &self.database_url)
            .env("JALUR_RABBITMQ__URL", &self.amqp_url)
            .envs(self.env.iter().map(|(name, value)| (name, value)));
    }

    fn spec(&self, name: &str, stage: Stage, command: Command) -> Spec {
        Spec {
            name: name.into(),
            command,
            log: self.data.log(name),
            stage,
            stop: Signal::SIGTERM,
        }
    }

    /// The environment of a program holds no variable of ours but those that are its configuration.
    fn command<C: Config>(&self, program: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(["internal", program]);
        for (name, _) in std::env::vars_os() {
            let ours = name.to_str().is_none_or(|name| name.starts_with(PREFIX));
            let meant = self.inherit
                && name
                    .to_str()
                    .is_some_and(|name| name == "JALUR_CONFIG" || is_key::<C>(name));
            if ours && !meant {
                command.env_remove(name);
            }
        }
        let elsewhere = [&self.database_url, &self.amqp_url]
            .into_iter()
            .chain(&self.management_url)
            .map(String::as_str)
            // Of a cluster there are several.
            .chain(self.prometheus_url.iter().flat_map(|urls| urls.split(',')))
            .any(|url| !is_local(url));
        if elsewhere {
            allow_clear(&mut command);
        }
        command
    }
}

/// Whoever runs this says where, and this is no place for certificates.
fn allow_clear(command: &mut Command) {
    command.env("JALUR_INSECURE", "true");
}

fn is_local(url: &str) -> bool {
    let url = url::Url::parse(url).ok();
    url.is_some_and(|url| url.host_str().is_none_or(common::config::is_local))
}

/// Whether a variable names a key of a program's configuration, or a file for one.
fn is_key<C: Config>(variable: &str) -> bool {
    let Some(key) = variable.strip_prefix(PREFIX) else {
        return false;
    };
    let key = key.to_lowercase().replace("__", ".");
    let Ok(tree) = serde_json::to_value(C::default()) else {
        return false;
    };
    let known = |key: &str| {
        key.split('.')
            .try_fold(&tree, |node, part| node.get(part))
            .is_some()
    };
    let secret = key
        .strip_suffix("_file")
        .filter(|secret| C::SECRETS.contains(secret));
    known(&key) || secret.is_some_and(known)
}

/// A token signed with a stack's key.
pub fn token(secret: &str, role: Role, tenant: Option<Uuid>, ttl: Duration) -> anyhow::Result<String> {
    // Issuer and audience are the programs' defaults.
    let keys = Keys::new(secret, "jalur", "jalur");
    Ok(keys.mint(role, tenant, "local", ttl)?)
}

/// Where a program that listens on `listen` is reached from this machine.
pub fn reached_at(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Waits until the program behind `admin` says that it is ready. If it ends meanwhile, its last words are the error.
pub async fn ready(process: &Process, admin: SocketAddr) -> anyhow::Result<()> {
    // Answers within itself; a second is a busy machine's.
    const ATTEMPT: Duration = Duration::from_secs(5);
    const PAUSE: Duration = Duration::from_millis(50);
    let client = crate::http::client();
    let url = format!("http://{}/readyz", reached_at(admin));
    let until = Instant::now() + READY;
    loop {
        let waits_for = match client.get(&url).timeout(ATTEMPT).send().await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => answer.text().await.unwrap_or_default(),
            Err(error) => error.to_string(),
        };
        if process.exited().is_some() {
            bail!("{}", process.obituary());
        }
        if Instant::now() >= until {
            bail!(
                "{} is not ready after {} s: {}\nThe end of {}:\n{}",
                process.name(),
                READY.as_secs(),
                waits_for.trim(),
                process.log().display(),
                process.log_tail(15)
            );
        }
        sleep(PAUSE).await;
    }
}

/// This very binary, to be run again as its own children.
pub fn this_binary() -> anyhow::Result<PathBuf> {
    let binary = std::env::current_exe().context("the path of this program is not known")?;
    // Linux adds this when the file was replaced since, by a build: the new one will do as well.
    let text = binary.to_string_lossy();
    Ok(text
        .strip_suffix(" (deleted)")
        .map_or_else(|| binary.clone(), |path| Path::new(path).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_gets_the_variables_that_are_its_keys() {
        assert!(is_key::<control_plane::Config>("JALUR_LOG__FILTER"));
        assert!(is_key::<ingest_daemon::Config>("JALUR_CAPACITY"));
        assert!(!is_key::<control_plane::Config>("JALUR_CAPACITY"));
        assert!(!is_key::<control_plane::Config>("JALUR_PIDS"));
        assert!(!is_key::<control_plane::Config>("HOME"));
    }

    #[test]
    fn what_listens_everywhere_is_reached_here() {
        let at = |text: &str| reached_at(text.parse().unwrap()).to_string();
        assert_eq!(at("0.0.0.0:8080"), "127.0.0.1:8080");
        assert_eq!(at("[::]:8080"), "[::1]:8080");
        assert_eq!(at("192.0.2.1:8080"), "192.0.2.1:8080");
    }
}
