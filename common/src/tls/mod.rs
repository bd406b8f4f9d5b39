//! TLS 1.2 and 1.3, for those who listen and those who connect.
//!
//! Certificates and keys are files, since whoever renews them writes files. They are read when the program starts, so
//! that a mistake is told then, and read anew when they change: a [`Server`] looks every few seconds, a [`Client`]
//! whenever it connects.

mod client;
mod expiry;
mod pem;
mod server;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};

pub use self::{
    client::{Client, trusting_nobody},
    expiry::expiry,
    pem::Pem,
    server::Server,
};

/// One for both directions, named wherever it is needed: no default of the process has to be set.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
