//! One process at a time runs the stack of a data folder.

use std::{
    fs::{File, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::data::Data;

/// How long the guard of a killed run may take to stop what was left; a new run waits for it.
const GUARD_WAIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// Held for as long as it lives; the kernel lets go of it however the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Who takes the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The process that runs the stack.
    Stack,
    /// The guard that clears up behind one that was killed.
    Guard,
}

/// Takes the lock for a stack. Another stack on the same folder is an error that names it.
pub fn acquire(data: &Data) -> anyhow::Result<Lock> {
    let until = Instant::now() + GUARD_WAIT;
    loop {
        match attempt(data, Holder::Stack)? {
            Ok(lock) => return Ok(lock),
            // A guard is done soon, and somebody who has not yet written who he is says so in a moment.
            Err(holder) if !holder.starts_with("pid") && Instant::now() < until => std::thread::sleep(POLL),
            Err(holder) => bail!(
                "a stack is running on {} already ({holder}); stop it first, or give another folder with --data",
                data.root().display()
            ),
        }
    }
}

/// Takes the lock for a guard, trying for `patience`: `None` means that a new stack has it, and clears up itself.
pub fn acquire_as_guard(data: &Data, patience: Duration) -> anyhow::Result<Option<Lock>> {
    let until = Instant::now() + patience;
    loop {
        match attempt(data, Holder::Guard)? {
            Ok(lock) => return Ok(Some(lock)),
            Err(_) if Instant::now() < until => std::thread::sleep(POLL),
            Err(_) => return Ok(None),
        }
    }
}

/// Tries once; the inner error says who holds it.
fn attempt(data: &Data, as_: Holder) -> anyhow::Result<Result<Lock, String>> {
    let path = data.path("lock");
    let failed = || format!("{} cannot be locked", path.display());
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(failed)?;
    match file.try_lock() {
        Ok(()) => {
            let who = match as_ {
                Holder::Stack => format!("pid {}", std::process::id()),
                Holder::Guard => format!("guard {}", std::process::id()),
            };
            let mut write = || {
                file.set_len(0)?;
                file.rewind()?;
                file.write_all(who.as_bytes())
            };
            write().with_context(failed)?;
            Ok(Ok(Lock { _file: file }))
        }
        Err(TryLockError::WouldBlock) => {
            let mut who = String::new();
            file.read_to_string(&mut who).with_context(failed)?;
            Ok(Err(who))
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_stack_is_told_who_runs_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let data = Data::open(folder.path()).unwrap();
        let first = acquire(&data).unwrap();
        let error = acquire(&data).unwrap_err().to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        assert!(acquire_as_guard(&data, Duration::ZERO).unwrap().is_none());
        drop(first);
        acquire(&data).unwrap();
    }
}
