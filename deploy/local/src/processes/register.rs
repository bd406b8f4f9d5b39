//! Which processes and containers run for a stack, on disk: what a killed stack left behind is found by it.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::{Process, Spec, Stage, identity, stop};
use crate::data;

/// One process that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) pid: i32,
    /// See [`identity::started`].
    started: Option<String>,
    pub(super) stage: Stage,
    stop: String,
}

impl Entry {
    pub(super) fn new(name: &str, pid: i32, stage: Stage, stop: Signal) -> Self {
        Self {
            name: name.to_owned(),
            pid,
            started: identity::started(pid),
            stage,
            stop: stop.as_str().to_owned(),
        }
    }

    /// Whether this very process still runs.
    pub(super) fn runs(&self) -> bool {
        self.started.is_some() && identity::started(self.pid) == self.started
    }

    pub(super) fn stop_signal(&self) -> Signal {
        self.stop.parse().unwrap_or(Signal::SIGTERM)
    }
}

/// What runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Running {
    pub(super) processes: Vec<Entry>,
    #[serde(default)]
    pub(super) containers: Vec<String>,
}

impl Running {
    /// What the file says; nothing if it is not there. A torn file cannot be: it is written whole or not at all.
    pub(super) fn load(path: &Path) -> anyhow::Result<Self> {
        match data::read(path)? {
            Some(text) => {
                serde_json::from_str(&text).with_context(|| format!("{} cannot be read", path.display()))
            }
            None => Ok(Self::default()),
        }
    }

    fn save(&self, path: &Path) -> anyhow::Result<()> {
        if self.processes.is_empty() && self.containers.is_empty() {
            return data::remove(path);
        }
        let text = serde_json::to_string_pretty(self).context("the list of processes cannot be written")?;
        data::write_private(path, &text)
    }
}

/// Starts processes and keeps the list of those that run. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Register(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    running: Mutex<Running>,
}

impl Register {
    /// The name of the list in a data folder.
    pub const FILE: &str = "running.json";

    /// An empty list, to be kept at `path`.
    pub fn new(path: PathBuf) -> Self {
        Self(Arc::new(Inner {
            path,
            running: Mutex::default(),
        }))
    }

    /// Starts a process.
    pub fn spawn(&self, spec: Spec) -> anyhow::Result<Process> {
        // Locked until the process is listed: it may end at once, and is to be struck off after, not before.
        let mut running = self.running();
        let register = self.clone();
        let process = Process::spawn(spec, move |entry| {
            let mut running = register.running();
            running.processes.retain(|other| other != entry);
            // Stale entries do no harm: they are told from living processes.
            let _ = running.save(&register.0.path);
        })?;
        running.processes.push(process.entry.clone());
        running.save(&self.0.path)?;
        Ok(process)
    }

    /// Lists a container, before it is started.
    pub(crate) fn add_container(&self, name: &str) -> anyhow::Result<()> {
        let mut running = self.running();
        running.containers.push(name.to_owned());
        running.save(&self.0.path)
    }

    /// Strikes off a container that was removed.
    pub(crate) fn remove_container(&self, name: &str) -> anyhow::Result<()> {
        let mut running = self.running();
        running.containers.retain(|other| other != name);
        running.save(&self.0.path)
    }

    /// Stops everything that runs, in order; each stage has at most `grace`.
    pub async fn stop_all(&self, grace: Duration) {
        let entries = self.running().processes.clone();
        stop::stop(&entries, grace).await;
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        // The list is whole even if a thread died while it held the lock.
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
