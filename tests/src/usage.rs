//! What processes use, from `/proc`. Elsewhere than on Linux it is not known.

use std::{collections::BTreeMap, fs, time::Duration};

/// The kernel's clock tick for user space: fixed at 100 Hz on every architecture that Linux runs on today.
const TICKS_PER_SECOND: f64 = 100.0;

/// What the kernel says of one process.
#[derive(Debug)]
struct Process {
    parent: i32,
    /// Its own, and that of children that have ended.
    ticks: u64,
}

/// The time on processors so far of a process and everything below it.
pub fn cpu(root: i32) -> Option<Duration> {
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
    Some(Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND))
}

/// The most memory that a process had so far, in bytes.
pub fn peak_memory(pid: i32) -> Option<u64> {
    kilobytes(pid, "VmHWM:")
}

/// The memory that a process has now, in bytes.
pub fn memory(pid: i32) -> Option<u64> {
    kilobytes(pid, "VmRSS:")
}

fn kilobytes(pid: i32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = rest.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
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
