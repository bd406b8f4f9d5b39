//! One program of a stack.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr},
    process::{Command, ExitStatus},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use local::{
    ports,
    processes::{Process, Register, Signal},
    programs::{self, Programs, STOP_GRACE},
};

const METRICS: Duration = Duration::from_secs(10);
/// How much of a panic is told: what it was, and the beginning of a backtrace.
const PANIC_LINES: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    ControlPlane,
    IngestDaemon,
}

/// A program of the stack: a real process, in a process group of its own, once it is started. It keeps its name and
/// its ports from one life to the next.
#[derive(Debug)]
pub struct Member {
    pub(super) kind: Kind,
    name: String,
    listen: SocketAddr,
    admin: SocketAddr,
    endpoints: Vec<String>,
    programs: Programs,
    register: Register,
    process: Mutex<Option<Process>>,
}

impl Member {
    pub(super) fn new(
        kind: Kind,
        n: usize,
        programs: Programs,
        endpoints: Vec<String>,
        register: Register,
    ) -> anyhow::Result<Self> {
        let address =
            || -> anyhow::Result<SocketAddr> { Ok((Ipv4Addr::LOCALHOST, ports::private()?).into()) };
        let name = match kind {
            Kind::ControlPlane => programs::CONTROL_PLANE,
            Kind::IngestDaemon => programs::INGEST_DAEMON,
        };
        Ok(Self {
            kind,
            name: format!("{name}-{n}"),
            listen: address()?,
            admin: address()?,
            endpoints,
            programs,
            register,
            process: Mutex::default(),
        })
    }

    /// Such as `ingest-daemon-1`, which is a daemon's id too.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `http://…` of a control plane.
    pub fn url(&self) -> Option<String> {
        (self.kind == Kind::ControlPlane).then(|| format!("http://{}", self.listen))
    }

    /// `http://…` of `/livez`, `/readyz` and `/metrics`.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// What it measures, as Prometheus text.
    pub async fn metrics(&self) -> anyhow::Result<String> {
        let url = format!("{}/metrics", self.admin_url());
        let answer = local::http::client().get(url).timeout(METRICS).send().await?;
        Ok(answer.error_for_status()?.text().await?)
    }

    /// The program with the configuration of this member, for arguments to be added.
    pub fn command(&self) -> anyhow::Result<Command> {
        match self.kind {
            Kind::ControlPlane => Ok(self.programs.control_plane_command(self.listen, self.admin)),
            Kind::IngestDaemon => {
                self.programs
                    .ingest_daemon_command(&self.name, &self.endpoints, self.admin)
            }
        }
    }

    /// Starts it, the first time or again, without waiting until it is ready.
    pub fn start(&self) -> anyhow::Result<()> {
        let spec = match self.kind {
            Kind::ControlPlane => self.programs.control_plane(&self.name, self.listen, self.admin),
            Kind::IngestDaemon => self
                .programs
                .ingest_daemon(&self.name, &self.endpoints, self.admin)?,
        };
        *self.slot() = Some(self.register.spawn(spec)?);
        Ok(())
    }

    /// Starts it again, after it ended, without waiting until it is ready.
    pub fn start_again(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.runs(), "{} runs", self.name);
        self.start()
    }

    /// Stops it in good order, starts it again and waits until it is ready.
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.terminate().await;
        self.start()?;
        self.ready().await
    }

    /// Waits until it says that it is ready.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let process = self
            .process()
            .with_context(|| format!("{} was never started", self.name))?;
        programs::ready(&process, self.admin).await
    }

    /// Whether it runs.
    pub fn runs(&self) -> bool {
        self.process().is_some_and(|process| process.exited().is_none())
    }

    /// Its process id; 0 if it was never started.
    pub fn pid(&self) -> i32 {
        self.process().map_or(0, |process| process.pid())
    }

    /// Kills it at once, as a crash would.
    pub async fn kill(&self) {
        if let Some(process) = self.process() {
            process.kill().await;
        }
    }

    /// Stops it in good order; answers how it ended.
    pub async fn terminate(&self) -> ExitStatus {
        let Some(process) = self.process() else {
            return ExitStatus::default();
        };
        process.stop(STOP_GRACE).await;
        process.exit().await
    }

    /// Freezes it, as a stalled machine would.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Sends it any signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = self.process() {
            process.signal(signal);
        }
    }

    /// What its log says of the first panic in any of its lives.
    pub(super) fn panicked(&self) -> Option<String> {
        let log = File::open(self.process()?.log()).ok()?;
        let lines = BufReader::new(log).split(b'\n').map_while(Result::ok);
        let lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
        let told: Vec<_> = lines
            .skip_while(|line| !(line.starts_with("thread '") && line.contains(" panicked at ")))
            .take(PANIC_LINES)
            .collect();
        (!told.is_empty()).then(|| format!("{} panicked:\n{}", self.name, told.join("\n")))
    }

    /// The last lines of its log, of its present life.
    pub fn log_tail(&self, lines: usize) -> String {
        self.process()
            .map_or_else(String::new, |process| process.log_tail(lines))
    }

    fn process(&self) -> Option<Process> {
        self.slot().clone()
    }

    fn slot(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        ports::release(self.listen.port());
        ports::release(self.admin.port());
    }
}
