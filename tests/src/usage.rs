//! What processes use, from `/proc`. Elsewhere than on Linux, or where the services are not ours, it is not known.

use std::{collections::BTreeMap, fs};

use anyhow::Context as _;

/// The kernel's clock tick for user space: fixed at 100 Hz on every architecture that Linux runs on today.
const TICKS_PER_SECOND: f64 = 100.0;

/// What the kernel says of one process.
#[derive(Debug)]
struct Process {
    parent: i32,
    /// Its own, and that of children that have ended.
    ticks: u64,
}

/// The CPU seconds so far of a process and everything below it.
pub(crate) fn cpu_seconds(root: i32) -> Option<f64> {
    let all = processes();
    all.get(&root)?;
    let below = |mut pid: i32| {
        // A parent that is not listed any more, or process 0, is where the way up ends.
        while pid != root {
            match all.get(&pid) {
                Some(process) => pid = process.parent,
                None => return false,
            }
        }
        true
    };
    let ticks: u64 = all
        .iter()
        .filter(|(pid, _)| below(**pid))
        .map(|(_, process)| process.ticks)
        .sum();
    Some(ticks as f64 / TICKS_PER_SECOND)
}

/// The most memory that a process had so far, in MB.
pub(crate) fn peak_megabytes(pid: i32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kilobytes: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next())
        .context("the kernel does not tell VmHWM")?
        .parse()?;
    Ok(kilobytes * 1024.0 / 1e6)
}

fn processes() -> BTreeMap<i32, Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            Some((pid, process(pid)?))
        })
        .collect()
}

fn process(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything; what follows is numbers, the state first.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // utime, stime, cutime and cstime are the 14th to 17th field of the file.
    let ticks = fields
        .get(11..15)?
        .iter()
        .filter_map(|field| field.parse::<u64>().ok());
    Some(Process {
        parent: fields.get(1)?.parse().ok()?,
        ticks: ticks.sum(),
    })
}
