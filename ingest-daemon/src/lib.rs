//! The ingest daemon of Jalur: consumes every assigned tenant's queue and stores its messages.
//!
//! How data flows:
//! - `fleet` watches the control plane, which says what lanes to run; `tenant_manager` is their registry.
//! - A `shard` is one AMQP channel with many `lane`s, and one committer with its own PostgreSQL connection.
//!   `delivery` decodes what arrives, a lane buffers it, and `commit` stores runs of many lanes in one
//!   transaction.
//! - How much of everything is `flow`; a lane that harms its neighbours is stored apart, says `quarantine`.
//! - After the commit, and only then, `settle` says what to acknowledge.
//! - What can never be stored is dead-lettered through `broker`, the one module that knows lapin; what was refused is
//!   sent to a delay queue, from where any daemon brings it back, until `retry` says that it is dead.
//!
//! `app` puts it together and owns the order in which it stops.

use std::{ffi::OsString, process::ExitCode};

mod app;
mod backoff;
mod broker;
mod cli;
mod clock;
mod commit;
mod config;
mod delivery;
mod fleet;
mod flow;
mod lane;
mod metrics;
mod quarantine;
mod reach;
mod retry;
mod settle;
mod shard;
mod spans;
mod tenant_manager;

pub use self::config::Config;

/// Runs the program with `args`, the first of which is its name. Exits 0 after a clean stop, 64 on a bad command line
/// or configuration, 1 otherwise.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    cli::run(args)
}
