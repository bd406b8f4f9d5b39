//! Child processes: each in a process group of its own, so that one can be killed alone and Ctrl-C reaches none of
//! them; each written down in a [`Register`], so that none outlives the stack, even one that was killed.

pub mod guard;
mod identity;
mod register;
mod stop;

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context as _;
pub use nix::sys::signal::Signal;
use nix::{sys::signal::killpg, unistd::Pid};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use self::{register::Register, stop::stop_left_over};

/// What is to be started.
#[derive(Debug)]
pub struct Spec {
    /// What it is called, in messages and in its log's name.
    pub name: String,
    /// How it is started.
    pub command: Command,
    /// Where its output goes. Kept from run to run.
    pub log: PathBuf,
    /// When it is stopped, among the others.
    pub stage: Stage,
    /// What asks it to stop in good order.
    pub stop: Signal,
}

/// The stages of a stop, the last first: nobody loses what it stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// What the broker itself stands on.
    Support,
    /// PostgreSQL and RabbitMQ.
    Services,
    /// The control planes, which daemons take their leave of.
    ControlPlanes,
    /// The daemons.
    Daemons,
}

/// A process that was started here. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Process {
    entry: register::Entry,
    log: PathBuf,
    log_start: u64,
    exit: watch::Receiver<Option<ExitStatus>>,
}

impl Process {
    /// Starts it. A thread waits for its end, so that this works on any runtime and on none.
    fn spawn(mut spec: Spec, ended: impl FnOnce(&register::Entry) + Send + 'static) -> anyhow::Result<Self> {
        let failed = || format!("{} cannot be started", spec.name);
        let log = File::options()
            .append(true)
            .create(true)
            .open(&spec.log)
            .with_context(|| format!("{} cannot be written", spec.log.display()))?;
        let log_start = log.metadata().with_context(failed)?.len();
        let mut child = spec
            .command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().with_context(failed)?)
            .stderr(log)
            .spawn()
            .with_context(failed)?;
        let entry = register::Entry::new(&spec.name, child.id().cast_signed(), spec.stage, spec.stop);
        let (sender, exit) = watch::channel(None);
        let process = Self {
            entry: entry.clone(),
            log: spec.log,
            log_start,
            exit,
        };
        std::thread::spawn(move || {
            // Only waiting twice could fail.
            let status = child.wait().unwrap_or_default();
            ended(&entry);
            sender.send_replace(Some(status));
        });
        Ok(process)
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.entry.name
    }

    /// Its process id, which is its group's too.
    pub fn pid(&self) -> i32 {
        self.entry.pid
    }

    /// How it ended, if it has.
    pub fn exited(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Waits for its end.
    pub async fn exit(&self) -> ExitStatus {
        let mut exit = self.exit.clone();
        // The sender's last act is to send, so the wait ends with a status.
        exit.wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|status| *status)
            .unwrap_or_default()
    }

    /// Sends a signal to its group. One that has ended is passed over.
    pub fn signal(&self, signal: Signal) {
        if self.exited().is_none() {
            let _ = killpg(Pid::from_raw(self.pid()), signal);
        }
    }

    /// Stops it: asks, waits for `grace`, then kills.
    pub async fn stop(&self, grace: Duration) {
        stop::stop(std::slice::from_ref(&self.entry), grace).await;
        self.exit().await;
    }

    /// Kills it and waits for its end.
    pub async fn kill(&self) {
        self.signal(Signal::SIGKILL);
        self.exit().await;
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines it wrote.
    pub fn log_tail(&self, lines: usize) -> String {
        // Enough for any number of lines that somebody reads in a terminal.
        const TAIL_BYTES: u64 = 64 * 1024;
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(&self.log)?;
            let end = file.metadata()?.len();
            file.seek(SeekFrom::Start(
                self.log_start.max(end.saturating_sub(TAIL_BYTES)),
            ))?;
            let mut tail = Vec::new();
            file.take(TAIL_BYTES).read_to_end(&mut tail)?;
            Ok(tail)
        };
        let tail = read().unwrap_or_default();
        let tail = String::from_utf8_lossy(&tail);
        let all: Vec<_> = tail.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// A message that says how it ended, with its last lines.
    pub fn obituary(&self) -> String {
        let how = self
            .exited()
            .map_or_else(|| "runs".to_owned(), |status| status.to_string());
        let tail = self.log_tail(15);
        let tail = if tail.is_empty() {
            "(nothing)"
        } else {
            tail.as_str()
        };
        format!(
            "{} (pid {}) has ended: {how}. Its last words, from {}:\n{tail}",
            self.name(),
            self.pid(),
            self.log.display()
        )
    }
}

#[cfg(test)]
mod tests;
