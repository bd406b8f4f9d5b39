//! Stops what a killed stack leaves behind.
//!
//! The guard is a small process of ours whose standard input is a pipe from the stack's process. However that process
//! ends, the kernel closes the pipe, and the guard stops what the register still names. A clean stop leaves it
//! nothing to do. (The next start looks too, should somebody have killed the guard as well.)

use std::{
    ffi::OsString,
    fs::File,
    io::Read as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::{Register, stop_left_over};
use crate::{data, data::Data, lock, services};

/// How long each stage of the stop may take.
const GRACE: Duration = Duration::from_secs(20);
/// A process that is killed closes its files one by one: the lock may be let go of a moment after the pipe.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
/// How long [`Guard::dismiss`] waits for a guard that has nothing to do.
const DISMISSED: Duration = Duration::from_secs(3);

/// A guard that watches this process.
#[derive(Debug)]
pub struct Guard {
    child: Child,
}

/// What becomes of the data folder when the stack's process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folder {
    /// It stays for the next run.
    Keep,
    /// It was made for this run, and goes.
    Remove,
}

impl Guard {
    /// Starts a guard; `program` is a binary whose `main` is [`crate::main`].
    pub fn start(program: &Path, data: &Data, folder: Folder) -> anyhow::Result<Self> {
        let log = File::options()
            .append(true)
            .create(true)
            .open(data.log("guard"))
            .context("the guard's log cannot be written")?;
        let child = Command::new(program)
            .args(["internal", "guard"])
            .arg(data.root())
            .args((folder == Folder::Remove).then_some("--remove"))
            .current_dir("/")
            // What kills this process's group or takes its terminal away is not to kill the guard.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))?;
        Ok(Self { child })
    }

    /// Ends the guard, after a clean stop.
    pub fn dismiss(mut self) {
        drop(self.child.stdin.take());
        let until = Instant::now() + DISMISSED;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The guard's process: `args` after `internal guard`.
pub(crate) fn main(args: &[OsString]) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[OsString]) -> anyhow::Result<()> {
    let root = args.first().map(PathBuf::from).context("no data folder")?;
    let remove = args.get(1).is_some_and(|flag| flag == "--remove");

    // Nothing is ever written into the pipe: this is its end.
    let mut nothing = [0; 1];
    while std::io::stdin().read(&mut nothing).is_ok_and(|bytes| bytes > 0) {}

    let register = root.join(Register::FILE);
    if !remove && !register.exists() {
        return Ok(());
    }
    let data = Data::open(&root)?;
    let Some(_lock) = lock::acquire_as_guard(&data, LOCK_PATIENCE)? else {
        return Ok(());
    };
    data::remove(&data.path("env"))?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(clear_up(&data, &register, remove))
}

async fn clear_up(data: &Data, register: &Path, remove: bool) -> anyhow::Result<()> {
    let names = stop_left_over(register, GRACE).await?;
    if !names.is_empty() {
        eprintln!("stopped what was left: {}", names.join(", "));
    }
    if remove {
        services::forget(data).await?;
        std::fs::remove_dir_all(data.root())?;
    }
    Ok(())
}
