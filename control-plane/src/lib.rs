//! The control plane of Jalur: tenants, identity, publishing, reading, and the fleet's assignment.
//!
//! A request enters through [`gateway`], which knows gRPC and REST from the same protos and asks [`identity`] who is
//! calling. The handlers in `grpc` hand it to `tenants`, `messages`, `dead_letters` or `credentials`; their state is PostgreSQL, their queues are
//! declared and published to by `broker`. What changes there reaches the daemons through `fleet`: a round assigns
//! lanes, a watch stream per daemon carries the differences, and what the daemons report back says what is applied.
//!
//! Any number of control planes can run on one database: none of them holds state that another needs.

mod app;
mod audit;
mod broker;
mod cli;
mod config;
mod credentials;
mod dead_letters;
mod error;
mod excerpt;
mod failure;
mod fleet;
pub mod gateway;
mod grpc;
pub mod identity;
mod limits;
mod memory;
mod messages;
pub mod migrations;
mod offload;
mod outbound;
mod overview;
mod problems;
mod readiness;
mod request_id;
mod retention;
mod tasks;
mod telemetry;
mod tenants;
mod turn;

use std::{ffi::OsString, process::ExitCode};

pub use self::config::Config;

/// Runs the program: `args` as `main` gets them, the name first.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    cli::main(args)
}
