//! A private PostgreSQL.

use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, postgres::PgConnectOptions};

use super::{Slot, unprivileged, unprivileged::Owner};
use crate::{
    data::{self, Data},
    processes::{Process, Register, Spec, Stage},
    services::{Say, rule::Installed, state::State, wait},
};

/// What people and programs connect as, and to.
const USER: &str = "jalur";
const DATABASE: &str = "jalur";
/// initdb takes two seconds; on a machine that is very busy, or a slow disk, more.
const INITDB_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a killed server's last processes may hold its shared memory.
const ORPHANS: Duration = Duration::from_secs(15);

/// A server that can be stopped, killed and started.
#[derive(Debug)]
pub struct Postgres {
    owner: Owner,
    programs: Installed,
    cluster: PathBuf,
    log: PathBuf,
    port: u16,
    password: String,
    register: Register,
    process: Slot,
}

impl Postgres {
    /// Makes its files if there are none.
    pub(super) async fn prepare(
        installed: &[Installed],
        data: &Data,
        state: &mut State,
        register: Register,
        say: &Say,
    ) -> anyhow::Result<Self> {
        let owner = Owner::find()?;
        let folder = folder(data, state, &owner, say)?;
        // The folder's place and the password must be known before there are files that depend on them.
        state.save(data)?;
        let cluster = folder.join("data");
        let programs = programs(installed, &cluster)?;
        let postgres = Self {
            owner,
            programs,
            cluster,
            log: data.log("postgres"),
            port: state.postgres_port,
            password: state.password.clone(),
            register,
            process: Slot::default(),
        };
        if !postgres.cluster.join("PG_VERSION").exists() {
            say.say("making a database cluster");
            postgres.initdb(&folder).await?;
        }
        postgres.remove_stale_pid()?;
        Ok(postgres)
    }

    /// Makes the cluster beside its place and moves it there, so that there is none or a whole one.
    async fn initdb(&self, folder: &Path) -> anyhow::Result<()> {
        let new = folder.join("data.new");
        let password = folder.join("password");
        data::remove(&new)?;
        data::write_private(&password, &self.password)?;
        self.owner.give(&password)?;
        let mut command = self.owner.command(&self.programs.folder.join("initdb"));
        command
            .arg("-D")
            .arg(&new)
            .args(["-U", USER, "-E", "UTF8", "--no-locale", "-A", "scram-sha-256"])
            .arg("--pwfile")
            .arg(&password)
            .stdin(Stdio::null());
        let output = tokio::process::Command::from(command).kill_on_drop(true).output();
        let output = tokio::time::timeout(INITDB_TIMEOUT, output)
            .await
            .context("initdb takes too long")?
            .context("initdb cannot be started")?;
        data::remove(&password)?;
        ensure!(
            output.status.success(),
            "initdb failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        fs::rename(&new, &self.cluster).context("the database cluster cannot be moved into its place")
    }

    /// After a crash `postmaster.pid` names a pid that may be anybody's by now, which PostgreSQL takes for a running
    /// server. Ours does not run: the data folder is locked, and what was left over has been stopped.
    fn remove_stale_pid(&self) -> anyhow::Result<()> {
        data::remove(&self.cluster.join("postmaster.pid"))
    }

    /// `15.18`
    pub fn version(&self) -> String {
        let (major, minor) = self.programs.version;
        format!("{major}.{minor}")
    }

    /// `postgres://…` of a superuser.
    pub fn url(&self) -> String {
        self.url_of(DATABASE)
    }

    fn url_of(&self, database: &str) -> String {
        let (password, port) = (&self.password, self.port);
        format!("postgres://{USER}:{password}@127.0.0.1:{port}/{database}")
    }

    /// Starts it and waits until it answers.
    pub async fn start(&self) -> anyhow::Result<()> {
        let until = tokio::time::Instant::now() + ORPHANS;
        loop {
            let process = self.register.spawn(self.spec())?;
            self.process.set(process.clone());
            match self.ready(&process).await {
                // Processes of a killed server see its end within seconds.
                Err(_)
                    if process.log_tail(20).contains("shared memory block")
                        && process.exited().is_some()
                        && tokio::time::Instant::now() < until =>
                {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    self.remove_stale_pid()?;
                }
                ready => return ready,
            }
        }
    }

    fn spec(&self) -> Spec {
        let mut command = self.owner.command(&self.programs.folder.join("postgres"));
        command.arg("-D").arg(&self.cluster);
        let port = self.port.to_string();
        for (name, value) in [
            ("listen_addresses", "127.0.0.1"),
            ("port", port.as_str()),
            // TCP is enough, and a socket's path may be too long for the system.
            ("unix_socket_directories", ""),
            // Two pools for each program, and one for each test that runs at a time.
            ("max_connections", "200"),
            // Dropping a tenant-rich database locks each partition.
            ("max_locks_per_transaction", "256"),
            ("log_line_prefix", "%m [%p] %a "),
            ("timezone", "UTC"),
        ] {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        Spec {
            name: "postgres".into(),
            command,
            log: self.log.clone(),
            stage: Stage::Services,
            // "Fast": SIGTERM would wait for every open psql.
            stop: Signal::SIGINT,
        }
    }

    async fn ready(&self, process: &Process) -> anyhow::Result<()> {
        let maintenance = self.url_of("postgres");
        wait::until("PostgreSQL", Some(process), || wait::postgres(&maintenance)).await?;
        let options: PgConnectOptions = maintenance.parse()?;
        let mut connection = options.disable_statement_logging().connect().await?;
        let exists = sqlx::query("select from pg_database where datname = $1")
            .bind(DATABASE)
            .fetch_optional(&mut connection)
            .await?;
        if exists.is_none() {
            // A name cannot be a parameter; this one is a constant.
            let create = format!("create database {DATABASE}");
            sqlx::query(AssertSqlSafe(create))
                .execute(&mut connection)
                .await?;
        }
        Ok(connection.close().await?)
    }

    /// Stops it in good order; connections are cut.
    pub async fn stop(&self) {
        self.process.stop().await;
    }

    /// Kills it, as a power cut would.
    pub async fn kill(&self) {
        self.process.kill().await;
    }

    /// Freezes the server, as a stalled machine would: whoever waits for an answer goes on waiting.
    pub fn freeze(&self) {
        if let Some(process) = self.process() {
            // First the one that makes new ones.
            process.signal(Signal::SIGSTOP);
            signal_children(process.pid(), Signal::SIGSTOP);
        }
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        if let Some(process) = self.process() {
            signal_children(process.pid(), Signal::SIGCONT);
            process.signal(Signal::SIGCONT);
        }
    }

    /// Signals its main process: SIGSTOP freezes new connections only, since each open one is served by a process of
    /// its own.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Its process, if it runs.
    pub fn process(&self) -> Option<Process> {
        self.process.running()
    }
}

/// Signals a process's children, each of which leads a group of its own; none where that is not known.
fn signal_children(pid: i32, signal: Signal) {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
        // One that has ended meanwhile needs no signal.
        let _ = kill(Pid::from_raw(child), signal);
    }
}

/// The folder of its files: in the data folder if the owner can enter that.
fn folder(data: &Data, state: &mut State, owner: &Owner, say: &Say) -> anyhow::Result<PathBuf> {
    if state.postgres_folder.is_none() && !owner.can_enter(data.root()) {
        state.postgres_folder = Some(unprivileged::elsewhere(data.root()));
    }
    let folder = match &state.postgres_folder {
        None => data.folder("postgres")?,
        Some(folder) => {
            say.say(format!(
                "PostgreSQL's files are in {}: the user {} cannot enter {}",
                folder.display(),
                owner.name().unwrap_or("of PostgreSQL"),
                data.root().display()
            ));
            let failed = || format!("{} cannot be made", folder.display());
            if let Some(parent) = folder.parent() {
                fs::create_dir_all(parent).with_context(failed)?;
            }
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .with_context(failed)?;
            folder.clone()
        }
    };
    owner.give(&folder)?;
    Ok(folder)
}

/// The programs of the version that made the cluster, for a new one the preferred.
fn programs(installed: &[Installed], cluster: &Path) -> anyhow::Result<Installed> {
    let made_by = data::read(&cluster.join("PG_VERSION"))?;
    let major = made_by.as_ref().and_then(|text| text.trim().parse::<u32>().ok());
    let mut will_do = installed
        .iter()
        .filter(|installed| major.is_none_or(|major| installed.version.0 == major));
    match (will_do.next(), major) {
        (Some(programs), _) => Ok(programs.clone()),
        (None, Some(major)) => bail!(
            "the database was made by PostgreSQL {major}, which is not installed any more; install it, or start empty with --fresh"
        ),
        (None, None) => bail!("PostgreSQL is not installed"),
    }
}
