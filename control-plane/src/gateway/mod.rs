//! gRPC and REST on one port, from one definition.
//!
//! ```text
//!                 ┌ grpc ───────────────────────────────┐
//! request → Front ┤ identity                            ├→ the generated gRPC servers
//!                 └ rest: path, query, JSON → message ──┘
//! ```
//!
//! The protos are the only source: `routes` reads REST's paths from their `google.api.http` options, `json` maps
//! messages by their descriptors, [`openapi()`] documents both with the protos' comments. A REST request becomes a
//! call of the same handler that gRPC calls, within the process. So a new method is an `rpc` in a proto, a rule in
//! [`crate::identity::rules`] and a handler; here it needs an example for its documentation and nothing else.
//!
//! There are generators for this. They were not taken because of what users of an API see: an error that names the
//! field by its path and says what it may be, payloads whose numbers are exact, 405 with `Allow`, 413 and 415 in the
//! shape of every other error, and one check of identity in front of both faces. Each of that would have been a
//! patch on generated code; together they are more than this room.

mod api;
mod audit;
mod body;
mod browsers;
mod call;
mod console;
mod deadline;
mod details;
mod docs;
mod ending;
mod error;
mod feed;
mod front;
mod gone;
mod grpc;
mod gzip;
mod json;
mod metrics;
mod oauth;
mod openapi;
mod rest;
mod routes;
mod rules;
mod streams;
mod summary;
#[cfg(test)]
mod tests;
mod transcode;
mod wire;

pub use self::{
    browsers::Origins,
    console::Console,
    docs::{Pages, router},
    front::{Front, Options, PUBLIC_MESSAGE_BYTES},
    openapi::openapi,
};
