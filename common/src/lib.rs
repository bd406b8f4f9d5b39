//! What both programs of Jalur share.
//!
//! - [`id`]: tenants' and messages' ids, and the names made from them (queues, partitions).
//! - [`payload`]: which bodies can be stored, decided before PostgreSQL is asked.
//! - [`reason`]: why a message is a dead letter.
//! - [`config`]: defaults < YAML < environment < flags, with errors that name the key.
//! - [`cli`]: the command line both programs have, and their exit codes.
//! - [`broker`]: a RabbitMQ connection that is kept up. [`database`]: how PostgreSQL is connected to.
//! - [`listener`]: HTTP/1 and HTTP/2 on one port. [`admin`]: the one for `/livez`, `/readyz` and `/metrics`.
//! - [`tls`]: certificates, for those who listen and those who connect.
//! - [`second_look`]: telling a failure that lasts from half of a change.
//! - [`causes`]: an error in full.
//! - [`shares`]: what one may have of something that all share.
//! - [`telemetry`]: logs and metrics.
//! - [`shutdown`]: from a signal to a clean stop.
//!
//! Both programs depend on this crate and never on each other.

pub mod admin;
pub mod body;
pub mod broker;
pub mod causes;
pub mod cli;
pub mod config;
pub mod database;
pub mod id;
pub mod listener;
pub mod payload;
pub mod reason;
pub mod second_look;
pub mod shares;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
