//! Dead letters: read, sent again, deleted.
//!
//! Whoever reads a dead-letter queue holds what it has read until it gives it back, and nobody else sees that
//! meanwhile. So the calls on one tenant's queue take turns ([`turn`]), on all control planes.

mod selection;
mod service;
mod turn;

pub(crate) use self::{
    selection::Selection,
    service::{DeadLetters, PAGE_BYTES_MAX, Replayed},
};
