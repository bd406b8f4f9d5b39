//! End to end: real programs on a real PostgreSQL and a real RabbitMQ, through the interfaces that users have.

// A test fails by panicking, in its helpers too.
#![allow(clippy::unwrap_used)]

mod audit;
mod bad_input;
mod broker_logins;
mod chaos;
mod concurrency;
mod console;
mod credentials;
mod dead_letters;
mod delivery;
mod documents;
mod errors;
mod fleet;
mod grpc;
mod identity;
mod issuers;
mod limits;
mod matrix;
mod neighbours;
mod outages;
mod overview;
mod poison;
mod poolers;
mod programs;
mod reading;
mod restarts;
mod retention;
mod retries;
mod roles;
mod support;
mod tenants;
mod traces;
mod watch;
