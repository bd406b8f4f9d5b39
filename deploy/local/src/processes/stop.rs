//! Stopping processes in order, and what a killed stack left behind.

use std::{path::Path, time::Duration};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use tokio::time::{Instant, sleep};

use super::register::{Entry, Running};
use crate::{data, services};

const POLL: Duration = Duration::from_millis(20);
/// How long a killed process may take to be gone: it is, unless it hangs in the kernel.
const KILLED: Duration = Duration::from_secs(5);

/// Stops the processes, the last stage first and each stage together: asks, waits for `grace`, then kills.
pub(super) async fn stop(entries: &[Entry], grace: Duration) {
    let mut stages: Vec<_> = entries.iter().map(|entry| entry.stage).collect();
    stages.sort();
    stages.dedup();
    for stage in stages.into_iter().rev() {
        let stage: Vec<_> = entries.iter().filter(|entry| entry.stage == stage).collect();
        for entry in stage.iter().filter(|entry| entry.runs()) {
            // To the program alone: it may have children of its own to stop in its own way. A stopped one is to
            // hear it too, and a child that was stopped with it may be what it waits for.
            let pid = Pid::from_raw(entry.pid);
            let _ = kill(pid, entry.stop_signal());
            let _ = killpg(pid, Signal::SIGCONT);
        }
        gone(&stage, grace).await;
        for entry in stage.iter().filter(|entry| entry.runs()) {
            let _ = killpg(Pid::from_raw(entry.pid), Signal::SIGKILL);
        }
        gone(&stage, KILLED).await;
    }
}

async fn gone(entries: &[&Entry], within: Duration) {
    let until = Instant::now() + within;
    while entries.iter().any(|entry| entry.runs()) && Instant::now() < until {
        sleep(POLL).await;
    }
}

/// Stops what the list at `path` names and still runs, and removes the list. Answers the names of what ran.
pub async fn stop_left_over(path: &Path, grace: Duration) -> anyhow::Result<Vec<String>> {
    let running = Running::load(path)?;
    let left: Vec<_> = running.processes.into_iter().filter(Entry::runs).collect();
    stop(&left, grace).await;
    let mut names: Vec<_> = left.into_iter().map(|entry| entry.name).collect();
    for container in running.containers {
        if services::docker::remove_container(&container).await {
            names.push(container);
        }
    }
    data::remove(path)?;
    Ok(names)
}
