//! The harness of the end-to-end tests: real services, real processes, nothing shared between tests but servers.
//!
//! - [`Environment`]: PostgreSQL and RabbitMQ, found or started once for a test binary by the rule of `cargo run`;
//!   or a test's own, to be killed and started again.
//! - [`Stack`]: one test's database, vhost, control planes and daemons. [`Member`] is one of its processes.
//! - [`Rest`]: a client that only reports. [`eventually()`]: waits for a condition. [`load`]: many messages.
//!   [`Account`]: a steady load, and what became of it. [`bench`]: tables of
//!   figures. [`usage`]: what a process uses. [`Proxy`]: a slow way to a server. [`RawPublisher`]: messages that no client
//!   would send.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use serde_json::json;
//! # use tests::{Options, Stack, eventually};
//! # async fn test() -> anyhow::Result<()> {
//! let stack = Stack::start(Options { daemons: 2, ..Options::default() }).await?;
//! let rest = stack.rest()?;
//! let tenant = rest.post("/api/tenants", &json!({ "name": "a" })).await?.expect(201)?;
//! stack.member("ingest-daemon-1")?.kill().await;
//! eventually("the other daemon takes over", Duration::from_secs(20), async || {
//!     let path = format!("/api/tenants/{}", tenant["id"].as_str().unwrap_or_default());
//!     let tenant = rest.get(&path).await?.expect(200)?;
//!     let consumers = &tenant["runtime"]["consumers"];
//!     anyhow::ensure!(consumers[0]["daemon"] == "ingest-daemon-2", "{consumers}");
//!     Ok(())
//! })
//! .await;
//! # Ok(())
//! # }
//! ```

mod account;
pub mod bench;
mod codec;
mod environment;
mod eventually;
pub mod load;
mod proxy;
pub mod raw;
mod rest;
mod stack;
pub mod usage;

pub use self::{
    account::{Account, Report},
    codec::Raw,
    environment::Environment,
    eventually::eventually,
    proxy::Proxy,
    raw::RawPublisher,
    rest::{Answer, Rest},
    stack::{Member, Options, Stack},
};
