//! The whole system on one machine: what `cargo run` starts, and what the tests stand on.
//!
//! - [`cli`]: the command line. `run` is a stack's life from start to Ctrl-C; `stack` is what it
//!   started, `banner` and `env_file` say where everything is, `links` sign in to the console, and `demo` gives it
//!   something to show.
//! - [`services`] finds or starts PostgreSQL and RabbitMQ; [`programs`] starts control planes and daemons, which are
//!   this very binary run again.
//! - [`processes`] are the children of a stack, in groups of their own, stopped in order even behind a killed stack.
//! - [`data`] is the folder where a stack's state lives, [`lock`] keeps it to one stack at a time, [`ports`] finds
//!   free ones, [`http`] asks what listens there.

mod banner;
pub mod cli;
pub mod data;
mod demo;
mod env_file;
pub mod http;
mod links;
pub mod lock;
pub mod ports;
pub mod processes;
pub mod programs;
mod run;
pub mod services;
mod stack;

use std::{ffi::OsString, process::ExitCode};

/// Runs the program: `args` as `main` gets them, the name first.
///
/// `internal NAME …` is how it runs itself again as one of its children.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<_> = args.into_iter().collect();
    match args.get(1..) {
        Some([internal, name, rest @ ..]) if internal == "internal" => match name.to_str() {
            Some(programs::CONTROL_PLANE) => control_plane::main(args[2..].to_vec()),
            Some(programs::INGEST_DAEMON) => ingest_daemon::main(args[2..].to_vec()),
            Some("guard") => processes::guard::main(rest),
            _ => {
                eprintln!("error: there is no program {}", name.display());
                ExitCode::from(common::cli::EXIT_USAGE)
            }
        },
        _ => cli::main(args),
    }
}
